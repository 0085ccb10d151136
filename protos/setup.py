"""Compiles the contracts into the `svyaz` namespace package while the distribution is built."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


class CompileProtos(build_py):
    def run(self) -> None:
        super().run()
        import grpc_tools
        from grpc_tools import protoc

        out = Path(self.build_lib)
        out.mkdir(parents=True, exist_ok=True)
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        files = sorted(str(path.relative_to(HERE)) for path in HERE.glob("svyaz/**/*.proto"))
        code = protoc.main(
            ["protoc", f"-I{HERE}", f"-I{well_known}"]
            + [f"--{plugin}_out={out}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
            + files
        )
        if code:
            raise SystemExit(f"protoc failed with {code}")
        for package in {(out / file).parent for file in files}:
            (package / "__init__.py").touch()
            (package / "py.typed").touch()


setup(cmdclass={"build_py": CompileProtos})
