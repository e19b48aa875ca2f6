"""Build of the ament package, by colcon."""

from setuptools import setup

NAME = "edgemtl_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "README.md"]),
        (f"share/{NAME}/launch", ["launch/detector.launch.py"]),
        (f"share/{NAME}/config", ["config/detector.yaml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="edgemtl",
    maintainer_email="edgemtl@example.org",
    description="A bundle of edgemtl as a lifecycle node",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"detector = {NAME}.detector:main"]},
)
