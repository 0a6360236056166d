"""Strong decoders, deep encoders, likelihoods and data sets for images: each folder is named for what it holds."""
