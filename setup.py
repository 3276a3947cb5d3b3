"""Packs what lies at the top of the checkout, the configs and the programs, into the package; pyproject.toml says the rest."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TOP = Path(__file__).resolve().parent
PROGRAMS = ("train_supernet.py", "search_subnet.py", "retrain_subnet.py", "export_subnet.py", "measure_latency.py")


class BuildPackage(build_py):
    """Builds ``oneshot/conf`` and ``oneshot/programs`` too; an editable install finds both where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source, target in self._packed():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return super().get_outputs(include_bytecode) + [target for _, target in self._packed()]

    def get_source_files(self) -> list[str]:
        return super().get_source_files() + [source for source, _ in self._packed()]

    def _packed(self) -> list[tuple[str, str]]:
        """Each file, from the top of the checkout, and where it is built."""
        package = Path(self.build_lib) / "oneshot"
        configs = sorted((TOP / "conf").rglob("*.yaml"))
        named = {path: package / path.relative_to(TOP) for path in configs}
        named |= {TOP / name: package / "programs" / name for name in PROGRAMS}
        return [(str(path.relative_to(TOP)), str(target)) for path, target in named.items()]


setup(cmdclass={"build_py": BuildPackage})
