"""What boards say of their power, as their kernels lay it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemtl_runtime.engine.energy import Power, power

ORIN_NX = {"1-0040": [("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 500)]}
AGX_ORIN = {
    "1-0040": [("VDD_GPU_SOC", 20000, 400), ("VDD_CPU_CV", 20000, 100), ("VIN_SYS_5V0", 5000, 600)],
    "1-0041": [("NC", 20000, 999), ("VDDQ_VDD2_1V8AO", 5000, 200), ("NC", 5000, 999)],
}
AGX_XAVIER = {
    "1-0040": [("GPU", 19000, 100), ("CPU", 19000, 200), ("SOC", 19000, 300)],
    "1-0041": [("CV", 19000, 0), ("VDDRQ", 19000, 100), ("SYS5V", 19000, 200)],
}
NANO = {"6-0040": [("POM_5V_IN", 5000, 900), ("POM_5V_GPU", 5000, 100), ("POM_5V_CPU", 5000, 300)]}
TURNED = {"1-0040": [("VDD_SOC", 5000, 500), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_IN", 5000, 2000)]}
UNLABELLED = {"1-0040": [(None, 5000, 1500)]}


def board(root: Path, monitors: dict[str, list[tuple[str | None, int, int]]]) -> Path:
    """Lay out a Jetson's INA3221 monitors: of each rail the label, millivolts and milliamperes."""
    for place, (address, rails) in enumerate(monitors.items()):
        folder = root / "sys/bus/i2c/drivers/ina3221" / address / f"hwmon/hwmon{place + 3}"
        folder.mkdir(parents=True)
        for number, (label, volts, amperes) in enumerate(rails, 1):
            (folder / f"in{number}_input").write_text(f"{volts}\n")
            (folder / f"curr{number}_input").write_text(f"{amperes}\n")
            if label is not None:
                (folder / f"in{number}_label").write_text(f"{label}\n")
    return root


@pytest.mark.parametrize(
    ("monitors", "watts", "meter"),
    [
        (ORIN_NX, 10.0, "VDD_IN"),
        (TURNED, 10.0, "VDD_IN"),
        (NANO, 4.5, "POM_5V_IN"),
        (AGX_ORIN, 13.0, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
        (AGX_XAVIER, 17.1, "GPU + CPU + SOC + CV + VDDRQ + SYS5V"),
        (UNLABELLED, 7.5, "hwmon3 in1"),
    ],
)
def test_the_whole_board_is_what_is_told(tmp_path: Path, monitors: dict, watts: float, meter: str) -> None:
    told = power(lambda: None, 0.01, board(tmp_path, monitors))
    assert told == Power(pytest.approx(watts), meter)


def test_the_input_of_a_carrier_is_the_whole(tmp_path: Path) -> None:
    board(tmp_path, {"1-0040": [("VDD_GPU", 12000, 1000)]})
    folder = tmp_path / "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon9"
    folder.mkdir(parents=True)
    (folder / "power1_input").write_text("64500000\n")
    assert power(lambda: None, 0.01, tmp_path) == Power(pytest.approx(64.5), "VIN")


def test_a_rail_that_is_off_is_left_out(tmp_path: Path) -> None:
    board(tmp_path, AGX_ORIN)
    (tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in2_input").write_text("")
    told = power(lambda: None, 0.01, tmp_path)
    assert told == Power(pytest.approx(11.0), "VDD_GPU_SOC + VIN_SYS_5V0")


@pytest.mark.parametrize("platform", [False, True])
def test_a_processor_s_counters_are_read_and_may_begin_anew(tmp_path: Path, platform: bool) -> None:
    assert power(lambda: None, 0.01, tmp_path) is None
    names = ["package-0", "package-1", "psys"][: 3 if platform else 2]
    for place, name in enumerate(names):
        folder = tmp_path / f"sys/class/powercap/intel-rapl:{place}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text("1000000\n")
        (folder / "energy_uj").write_text("900000\n")

    def work() -> None:
        for file in tmp_path.glob("sys/class/powercap/*/energy_uj"):
            file.write_text("100000\n")  # past its range: 0.2 J since

    told = power(work, 0.2, tmp_path)
    assert told is not None and told.meter == ("psys" if platform else "package-0 + package-1")
    assert told.watts == pytest.approx((1 if platform else 2) * 0.2 / 0.2, rel=0.3)
