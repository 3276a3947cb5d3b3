"""The programs behind the commands: ``oneshot-train`` is ``oneshot.programs.train_supernet``. Their files lie at the top of the
checkout, from where a wheel packs them into this folder.
"""

from oneshot.config.paths import PROGRAMS

__path__ = [str(PROGRAMS)]
