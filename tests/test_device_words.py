"""What Jetsons and phones print, in the variants that are about: recorded lines in, numbers out.

Sources. tegrastats: NVIDIA's Jetson Linux Developer Guide ("tegrastats Utility", r32.1 to r36.4), the samples in
the tests of Datadog's agent (nano, tx1, tx2), of prometheus exporters for Xavier NX and of parsers for Orin
on public GitHub. nvpmodel and jetson_clocks: the same guide, jetson_stats' comments. dumpsys: AOSP's
BatteryService and ThermalManagerService, Skia's and Perfetto's device scripts, Samsung and Xiaomi as quoted in
public issues.
"""

# ruff: noqa: E501 - lines as devices print them
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pam_edge.benchmarks.devices.android import read_battery, read_thermal
from pam_edge.benchmarks.devices.energy import Counter, Watts, counters
from pam_edge.benchmarks.devices.jetson import read_clocks, read_power_mode, read_tegrastats
from pam_edge.benchmarks.devices.state import board, chip, gpu_bytes, read_smi, read_state

MIB = 1 << 20
TEGRA = {
    "nano, r32": (
        "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) CPU [2%@102,1%@102,0%@102,0%@102] EMC_FREQ 0% "
        "GR3D_FREQ 0% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C POM_5V_IN 900/943 POM_5V_GPU 0/0 "
        "POM_5V_CPU 123/123",
        (613, 0.0, 0.9, 46.0, {"cpu": 102}),
    ),
    "tx1, r28": (
        "RAM 1179/3983MB (lfb 120x4MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102,4%@102,0%@102,0%@102] EMC_FREQ 7%@408 "
        "GR3D_FREQ 0%@76 APE 25 AO@42.5C CPU@37.5C GPU@39C PLL@37C Tdiode@42.75C PMIC@100C Tboard@42C "
        "thermal@38.5C VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19",
        (1179, 0.0, 2.532, 42.75, {"cpu": 102, "gpu": 76, "memory": 408}),
    ),
    "tx2, cores off": (
        "RAM 1345/7829MB (lfb 1290x4MB) SWAP 0/512MB (cached 0MB) CPU [2%@345,off,off,off,off,off] EMC_FREQ 13%@40 "
        "GR3D_FREQ 0%@114 APE 150 BCPU@35C MCPU@35C GPU@41C PLL@35C AO@35.5C Tboard@35C Tdiode@36C PMIC@100C "
        "thermal@35.5C VDD_IN 2003/2658 VDD_CPU 320/518 VDD_GPU 400/735",
        (1345, 0.0, 2.003, 41.0, {"cpu": 345, "gpu": 114, "memory": 40}),
    ),
    "tx2, other rails": (
        "RAM 2007/7852MB (lfb 180x4MB) SWAP 0/3926MB (cached 0MB) CPU [1%@345,off,off,0%@345,2%@346,0%@345] "
        "EMC_FREQ 16%@102 GR3D_FREQ 0%@114 APE 150 PLL@35.5C MCPU@35.5C PMIC@100C Tboard@33C GPU@34.5C BCPU@35.5C "
        "thermal@35.1C Tdiode@33.5C VDD_SYS_GPU 153/153 VDD_SYS_SOC 384/384 VDD_4V0_WIFI 0/0 VDD_IN 1423/1423 "
        "VDD_SYS_CPU 153/153 VDD_SYS_DDR 230/230",
        (2007, 0.0, 1.423, 35.5, {"cpu": 346, "gpu": 114, "memory": 102}),
    ),
    "tx2 nx, r35": (
        "RAM 4181/7771MB (lfb 8x4MB) SWAP 0/3885MB (cached 0MB) CPU [10%@1190,0%@1190,1%@1190,0%@1190,5%@1190,"
        "1%@1190] EMC_FREQ 15%@1600 GR3D_FREQ 0% PLL@42.906C Tdiode@43.25C Tboard@36C GPU@41.75C BCPU@42.5C "
        "MCPU@47.5C thermal@42.425C VDD_SYS_GPU 47mW/0mW VDD_SYS_SOC 813mW/207mW VDD_4V0_WIFI 495mW/0mW "
        "VDD_IN 3539mW/1422mW VDD_SYS_CPU 125mW/104mW",
        (4181, 0.0, 3.539, 47.5, {"cpu": 1190, "memory": 1600}),
    ),
    "agx xavier, r32": (
        "RAM 2690/15830MB (lfb 2801x4MB) SWAP 0/7915MB (cached 0MB) CPU [4%@1190,2%@1190,off,off,off,off,off,off] "
        "EMC_FREQ 1%@1331 GR3D_FREQ 12%@318 APE 150 MTS fg 0% bg 0% AO@36.5C GPU@37C Tdiode@39.75C PMIC@100C "
        "AUX@36C CPU@37.5C thermal@36.7C Tboard@37C GPU 310/155 CPU 930/1007 SOC 1240/1240 CV 0/0 VDDRQ 310/310 "
        "SYS5V 1730/1752",
        (2690, 0.12, 4.52, 39.75, {"cpu": 1190, "gpu": 318, "memory": 1331}),
    ),
    "xavier nx, r35.5 with a date": (
        "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397,17%@1192,"
        "16%@1190,13%@1190,23%@1190,10%@1190] EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] VIC_FREQ 115 APE 150 AUX@45C "
        "CPU@46.5C thermal@45.6C AO@45C GPU@45.5C PMIC@50C VDD_IN 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW "
        "VDD_SOC 650mW/711mW",
        (3168, 0.0, 2.763, 50.0, {"cpu": 1397, "gpu": 114, "memory": 204}),
    ),
    "orin nano, idle": (
        "10-08-2026 04:38:21 RAM 1343/7620MB (lfb 157x4MB) SWAP 165/3810MB (cached 3MB) CPU [0%@1497,0%@729,0%@729,"
        "0%@729,0%@729,0%@729] EMC_FREQ 15%@204 GR3D_FREQ 0%@[305] NVDEC off NVJPG off VIC off OFA off APE 200 "
        "cpu@48.562C soc2@46.593C soc0@48.625C gpu@49.625C tj@49.312C soc1@47.937C VDD_IN 5251mW/8535mW "
        "VDD_CPU_GPU_CV 512mW/1944mW VDD_SOC 2720mW/3659mW",
        (1343, 0.0, 5.251, 49.625, {"cpu": 1497, "gpu": 305, "memory": 204}),
    ),
    "orin nano, busy": (
        "RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 8MB) CPU [38%@1497,2%@729,1%@729,0%@729,1%@729,"
        "0%@729] EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] NVDEC off NVJPG off VIC off OFA off APE 200 cpu@57.125C "
        "soc2@55.093C soc0@56.625C gpu@58.5C tj@58.5C soc1@56C VDD_IN 14210mW/11035mW VDD_CPU_GPU_CV "
        "6120mW/3944mW VDD_SOC 3720mW/3659mW",
        (6712, 0.99, 14.21, 58.5, {"cpu": 1497, "gpu": 612, "memory": 2133}),
    ),
    "orin nx, cores off and a sensor off": (
        "RAM 1224/15368MB (lfb 8x4MB) SWAP 0/7684MB (cached 0MB) CPU [1%@729,0%@729,0%@729,0%@729,off,off,off,off] "
        "EMC_FREQ 0% GR3D_FREQ 0%@[305] CPU@43.5C GPU@42.5C tj@43.5C SOC0@42.906C SOC1@42.156C CV0@-256C "
        "VDD_IN 4319mW/4319mW VDD_CPU_GPU_CV 499mW/499mW VDD_SOC 1200mW/1200mW",
        (1224, 0.0, 4.319, 43.5, {"cpu": 729, "gpu": 305}),
    ),
    "agx orin, r36.4: two GPU clusters, no whole rail": (
        "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [14%@2188,5%@2112,"
        "8%@2035,14%@2201,46%@1267,47%@1267,2%@1267,10%@1267,4%@1036,5%@1036,6%@1036,10%@1036] EMC_FREQ 3%@2133 "
        "GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off NVJPG off NVJPG1 off VIC 36%@115 OFA off NVDLA0 off NVDLA1 off "
        "PVA0_FREQ off APE 174 cpu@52.562C soc2@48.437C soc0@49.093C tj@52.562C soc1@49.656C VDD_GPU_SOC "
        "2412mW/2412mW VDD_CPU_CV 1607mW/1607mW VIN_SYS_5V0 4707mW/4707mW",
        (18207, 0.0, 8.726, 52.562, {"cpu": 2201, "gpu": 0, "memory": 2133}),
    ),
    "agx orin, r35: rails that are not connected": (
        "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU [0%@729,0%@729,"
        "0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C Tboard@32C "
        "SOC2@40.093C Tdiode@33C SOC0@41.093C CV1@-256C GPU@-256C tj@44.343C SOC1@41.25C CV2@-256C VDD_GPU_SOC "
        "2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC "
        "0mW/0mW",
        (4321, 0.0, 6.755, 44.562, {"cpu": 729, "gpu": 0, "memory": 2133}),
    ),
    "without root: no clocks of memory, no rails": (
        "RAM 2505/7775MB (lfb 1429x4MB) SWAP 0/3887MB (cached 0MB) CPU [2%@2035,0%@2035,0%@2035] GR3D_FREQ 45% "
        "cpu@38.25C soc2@36.25C soc0@38.5C tj@38.25C soc1@37.25C gpu@36.5C",
        (2505, 0.45, None, 38.5, {"cpu": 2035}),
    ),
    "thor: rails of its own": (
        "RAM 5102/125771MB (lfb 26x4MB) SWAP 0/0MB (cached 0MB) CPU [1%@972,0%@972] EMC_FREQ 0%@4266 GR3D_FREQ 3% "
        "cpu@41.5C tj@42.062C soc012@41.2C VDD_GPU 1575mW/1575mW VDD_CPU_SOC_MSS 5900mW/5900mW VIN_SYS_5V0 "
        "4700mW/4700mW VIN 18500mW/18500mW",
        (5102, 0.03, 18.5, 42.062, {"cpu": 972, "memory": 4266}),
    ),
}


@pytest.mark.parametrize("name", TEGRA)
def test_tegrastats(name: str) -> None:
    line, (ram, share, watts, hottest, clocks) = TEGRA[name]
    found = read_tegrastats(line)
    assert found is not None and found.ram_used == ram * MIB
    assert found.gpu_share == share and max(found.temperatures_c.values()) == hottest
    assert found.whole_w == (None if watts is None else pytest.approx(watts))
    assert found.clocks_hz == {part: mhz * 1_000_000 for part, mhz in clocks.items()}
    assert "RAM" not in found.power_w and "NC" not in found.power_w


@pytest.mark.parametrize("line", ["", "tegrastats: command not found", "Password:", "RAM"])
def test_what_is_not_tegrastats(line: str) -> None:
    assert read_tegrastats(line) is None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n0\n", "15W"),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE"),
        (
            "NVPM VERB: Config file: /etc/nvpmodel.conf\nNVPM VERB: parsing done for /etc/nvpmodel.conf\n"
            "NVPM VERB: Current mode: NV Power Mode: MODE_30W_ALL\n3\nNVPM VERB: PARAM CPU_ONLINE: ARG CORE_0: "
            "PATH /sys/devices/system/cpu/cpu0/online: REAL_VAL: 1 CONF_VAL: 1\n",
            "MODE_30W_ALL",
        ),
        ("NV Power Mode: MAXN_SUPER\r\n2\r\n", "MAXN_SUPER"),
        ("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13\n", None),
    ],
)
def test_nvpmodel(text: str, mode: str | None) -> None:
    assert read_power_mode(text) == mode


FREE = """SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
Online CPUs: 0-5
cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=1190400 IdleStates: WFI=1 c7=1
cpu1:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=624750000 CurrentFreq=306000000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0
FAN Dynamic Speed control=nvfancontrol hwmon0_pwm1=0
NV Power Mode: 15W
"""
LOCKED = """SOC family:tegra194  Machine:Jetson-AGX
Online CPUs: 0-7
CPU Cluster Switching: Disabled
cpu0: Online=1 Governor=schedutil MinFreq=2265600 MaxFreq=2265600 CurrentFreq=2265600 IdleStates: C1=0 c6=0
GPU MinFreq=1377000000 MaxFreq=1377000000 CurrentFreq=1377000000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=1
Fan: speed=255
NV Power Mode: MAXN
"""


def test_jetson_clocks() -> None:
    clocks, locked = read_clocks(FREE)
    assert clocks == {"cpu": 1_190_400_000, "gpu": 306_000_000, "memory": 2_133_000_000} and locked is False
    clocks, locked = read_clocks(LOCKED)
    assert clocks["gpu"] == 1_377_000_000 and locked is True
    assert read_clocks("Error: Please run as root\n") == ({}, None)


BATTERY = {
    "AOSP, discharging": (
        "Current Battery Service state:\n  AC powered: false\n  USB powered: false\n  Wireless powered: false\n"
        "  Max charging current: 0\n  Charge counter: 2483000\n  status: 3\n  health: 2\n  present: true\n"
        "  level: 67\n  scale: 100\n  voltage: 3964\n  temperature: 337\n  technology: Li-poly\n",
        (0.67, False, False, 33.7, 3.964),
    ),
    "AOSP, on USB": (
        "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n  Wireless powered: false\n"
        "  Dock powered: false\n  Max charging current: 500000\n  status: 2\n  health: 2\n  present: true\n"
        "  level: 55\n  voltage: 4200\n  temperature: 250\n  technology: Li-ion\n",
        (0.55, True, True, 25.0, 4.2),
    ),
    "full": (
        "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n  status: 5\n  health: 2\n"
        "  level: 100\n  scale: 100\n  voltage: 4352\n  temperature: 274\n",
        (1.0, False, True, 27.4, 4.352),
    ),
    "Samsung: an event log with other numbers follows": (
        "Current Battery Service state:\n  status: 2\n  health: 2\n  level: 75\n  scale: 100\n  voltage: 4156\n"
        "  temperature: 357\n  Capacity level: -1\n[EventLogBuffer]\n08-11 18:34:14.721  Sending "
        "ACTION_BATTERY_CHANGED: level:72, health:2, voltage:4120, temperature:345\n",
        (0.75, True, None, 35.7, 4.156),
    ),
    "carriage returns and updates stopped": (
        "Current Battery Service state:\r\n  (UPDATES STOPPED -- use 'reset' to restart)\r\n  AC powered: true\r\n"
        "  status: 1\r\n  level: 15\r\n  scale: 100\r\n  voltage: 4\r\n  temperature: 340\r\n",
        (0.15, None, True, 34.0, 4.0),
    ),
    "an emulator's": (
        "Current Battery Service state:\n  AC powered: true\n  status: 4\n  level: 50\n  scale: 200\n"
        "  voltage: 0\n  temperature: 0\n",
        (0.25, False, True, 0.0, None),
    ),
}


@pytest.mark.parametrize("name", BATTERY)
def test_dumpsys_battery(name: str) -> None:
    text, (level, charging, plugged, degrees, volts) = BATTERY[name]
    found = read_battery(text)
    assert found is not None
    assert (found.level, found.charging, found.plugged) == (level, charging, plugged)
    assert (found.temperature_c, found.volts) == (degrees, volts)


SKIA = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 1
Thermal Status: 0
Cached temperatures:
 Temperature{mValue=-99.9, mType=6, mName=TYPE_POWER_AMPLIFIER, mStatus=0}
\tTemperature{mValue=95.3, mType=4, mName=TYPE_SKIN, mStatus=0}
HAL Ready: true
HAL connection:
\tSdhms connected: yes
Current temperatures from HAL:
\tTemperature{mValue=24.0, mType=1, mName=TYPE_CPU, mStatus=0}
\tTemperature{mValue=25.3, mType=4, mName=TYPE_SKIN, mStatus=0}
\tTemperature{mValue=-99.9, mType=6, mName=TYPE_POWER_AMPLIFIER, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=1, mType=4, mName=TYPE_MODEM}
"""
XIAOMI = """Thermal Status: 3
Cached temperatures:
\tTemperature{mValue=60.0, mType=0, mName=CPU0, mStatus=0}
Current temperatures from HAL:
\tTemperature{mValue=52.1, mType=0, mName=CPU7, mStatus=0}
\tTemperature{mValue=32.4, mType=2, mName=battery, mStatus=0}
\tTemperature{mValue=37.2, mType=3, mName=skin, mStatus=1}
\tTemperature{mValue=NaN, mType=9, mName=NPU, mStatus=0}
"""
PIXEL = """IsStatusOverride: false
Thermal Status: 1
Cached temperatures:
\tTemperature{mValue=40.5, mType=3, mName=VIRTUAL-SKIN, mStatus=1}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 3  connected: yes
Current temperatures from HAL:
\tTemperature{mValue=40.9, mType=3, mName=VIRTUAL-SKIN, mStatus=1}
\tTemperature{mValue=55.0, mType=0, mName=BIG, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=5, mName=thermal-cpufreq-2}
Temperature static thresholds from HAL:
\tTemperatureThreshold{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds=[NaN, 39.0, 43.0]}
"""
CACHED = "Thermal Status: 0\nCached temperatures:\n\tTemperature{mValue=31.5, mType=3, mName=SKIN, mStatus=0}\nHAL Ready: false\n"


@pytest.mark.parametrize(
    ("text", "status", "temperatures"),
    [
        (SKIA, "none", {"cpu": 24.0, "skin": 25.3}),
        (XIAOMI, "severe", {"cpu7": 52.1, "battery": 32.4, "skin": 37.2}),
        (PIXEL, "light", {"virtual-skin": 40.9, "big": 55.0}),
        (CACHED, "none", {"skin": 31.5}),
        ("Thermal Status: 0\nHAL Ready: true\nCurrent temperatures from HAL:\n", "none", {}),
    ],
)
def test_dumpsys_thermalservice(text: str, status: str, temperatures: dict[str, float]) -> None:
    found = read_thermal(text)
    assert found is not None and (found.status, found.temperatures_c) == (status, temperatures)


@pytest.mark.parametrize(
    "text", ["", "Can't find service: thermalservice\n", "Permission Denial: can't dump\n"]
)
def test_services_that_say_nothing(text: str) -> None:
    assert read_battery(text) is None and read_thermal(text) is None


def test_nvidia_smi() -> None:
    text = (
        "NVIDIA H100 80GB HBM3, 34, 69.52, 1980, 2619, 4\nOrin (nvgpu), [N/A], [N/A], [N/A], [N/A], [N/A]\n"
    )
    assert read_smi(text) == {"gpu": (34.0, 69.52, 1_980_000_000, 2_619_000_000)}
    assert read_smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n") == {}
    assert gpu_bytes(7, run=lambda command: "7, 1024\n8, 5\n7, 2\n") == 1026 * MIB
    assert gpu_bytes(9, run=lambda command: "7, 1024\n") is None


def written(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_jetson_s_state_is_put_together(tmp_path: Path) -> None:
    cpu = "sys__devices__system__cpu__"
    written(
        tmp_path,
        **{f"{cpu}cpu0__cpufreq__scaling_governor": "schedutil\n"},
        **{f"{cpu}cpufreq__policy0__scaling_cur_freq": "1190400\n"},
        sys__class__thermal__thermal_zone0__type="CPU-therm\n",
        sys__class__thermal__thermal_zone0__temp="48500\n",
        proc__meminfo="MemTotal: 8000 kB\nMemAvailable: 5000 kB\n",
    )
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
    said = {"nvpmodel": "NV Power Mode: MAXN_SUPER\n2\n", "jetson_clocks": FREE}

    def run(command: Sequence[str]) -> str:
        return said.get(command[0], "")

    line = TEGRA["orin nano, busy"][0]
    state = read_state(root=tmp_path, run=run, first_line=lambda command: line)
    assert state.power_mode == "MAXN_SUPER" and state.clocks_locked is False
    assert state.clocks_hz["cpu0"] == 1_190_400_000 and state.clocks_hz["gpu"] == 306_000_000
    assert state.temperatures_c["cpu-therm"] == 48.5 and state.temperatures_c["tj"] == 58.5
    assert state.power_w["VDD_IN"] == 14.21 and state.free_bytes == 5000 * 1024
    assert state.battery is None and state.charging is None and state.throttling is None
    assert board(root=tmp_path, run=run) == "NVIDIA Jetson Orin Nano Developer Kit"
    assert chip(root=tmp_path, run=run) == "nvidia,tegra234"


def test_a_phone_s_state_is_put_together(tmp_path: Path) -> None:
    said = {
        ("dumpsys", "battery"): BATTERY["AOSP, discharging"][0],
        ("dumpsys", "thermalservice"): XIAOMI,
        ("getprop", "ro.product.manufacturer"): "Google\n",
        ("getprop", "ro.product.model"): "Pixel 9\n",
        ("getprop", "ro.soc.manufacturer"): "Google\n",
        ("getprop", "ro.soc.model"): "Tensor G4\n",
    }

    def run(command: Sequence[str]) -> str:
        return said.get((command[0], command[1]), "")

    state = read_state(root=tmp_path, run=run, first_line=lambda command: "")
    assert (state.battery, state.charging, state.throttling) == (0.67, False, "severe")
    assert state.temperatures_c["cpu7"] == 52.1 and state.power_mode is None
    assert board(root=tmp_path, run=run) == "Google Pixel 9"
    assert chip(root=tmp_path, run=run) == "Google Tensor G4"


def test_a_laptop_s_battery_and_a_mouse_s(tmp_path: Path) -> None:
    written(
        tmp_path,
        sys__class__power_supply__BAT0__type="Battery\n",
        sys__class__power_supply__BAT0__capacity="81\n",
        sys__class__power_supply__BAT0__status="Charging\n",
        sys__class__power_supply__A_mouse__type="Battery\n",
        sys__class__power_supply__A_mouse__scope="Device\n",
        sys__class__power_supply__A_mouse__capacity="5\n",
    )
    state = read_state(root=tmp_path, run=lambda command: "", first_line=lambda command: "")
    assert (state.battery, state.charging) == (0.81, True)


def test_energy_is_power_over_time_and_counters_start_anew(tmp_path: Path) -> None:
    watts = Watts()
    for at, value in ((0, 5.0), (100, 10.0), (200, 20.0), (300, 99.0)):
        watts.add(value, at=at * 1_000_000)
    assert watts.energy_uj(50_000_000, 250_000_000) == 3_000_000  # 15 W for 0.2 s
    assert watts.energy_uj(90_000_000, 110_000_000) is None  # one reading tells nothing
    zone = tmp_path / "intel-rapl:0"
    written(tmp_path, **{"intel-rapl:0__name": "package-0\n", "intel-rapl:0__energy_uj": "990\n"})
    (zone / "max_energy_range_uj").write_text("1000\n")
    written(tmp_path, **{"intel-rapl:0:0__name": "core\n", "intel-rapl:0:0__energy_uj": "5\n"})
    assert counters(tmp_path) == [Counter(zone / "energy_uj", 1000)]
    assert counters(tmp_path / "none") == []
