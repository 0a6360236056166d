"""Reports: one self-contained page for one run or several."""
