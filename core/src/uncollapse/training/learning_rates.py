"""Learning-rate schedules."""

from ..config.component import ComponentConfig

COMPONENTS: tuple[type[ComponentConfig], ...] = ()
