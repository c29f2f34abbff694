"""The style sheet of the report's page. Data and nothing else; colours come from the palette."""

from __future__ import annotations

from typing import get_args

from pam_edge.benchmarks.report.palette import COLOURS, Light


def style() -> str:
    """The sheet: light, and dark where the reader's system is."""
    light, dark = ("".join(f"--{k}:{v};" for k, v in COLOURS[n].items()) for n in get_args(Light))
    dark = f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return f":root{{color-scheme:light dark;{light}}}\n{dark}\n{_SHEET}"


_SHEET = """
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:36px 24px 56px}
h1{font-size:38px;line-height:1.1;margin:0;letter-spacing:-.02em}
h2{font-size:23px;margin:0;letter-spacing:-.01em}
h3{margin:0;font-size:16px}
section{margin-top:44px}
.chips{margin:12px 0 0;display:flex;gap:8px;flex-wrap:wrap}
.chips span{border:1px solid var(--line);background:var(--card);border-radius:99px;padding:2px 12px;
font-size:13px;color:var(--soft)}
.lead,.about{max-width:72ch;color:var(--soft);margin:10px 0 0}
.warning{border:1px solid var(--warn);color:var(--warn);border-radius:10px;padding:10px 14px;margin:16px 0 0;
max-width:80ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;margin-top:26px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:14px 18px 12px}
.tile h3{color:var(--soft);font-weight:500;font-size:13px}
.tile p{margin:2px 0 0;font-size:27px;font-weight:600;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.tile small{display:block;font-size:12px;font-weight:400;letter-spacing:0;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr));gap:18px;
margin-top:16px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:16px 18px 12px}
figcaption p{margin:2px 0 10px;color:var(--soft);font-size:13px}
svg{display:block;width:100%;height:auto;font-family:inherit;font-variant-numeric:tabular-nums}
svg .hit:hover{opacity:.8}
.none{color:var(--soft);margin:10px 0 0}
.scroll{overflow-x:auto;margin-top:14px;background:var(--card);border:1px solid var(--line);
border-radius:14px}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:6px 12px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
th{font-weight:500;color:var(--soft)}
td.w,th.w{text-align:left}
td.why{white-space:normal;min-width:260px;text-align:left;color:var(--warn)}
summary{cursor:pointer;font-weight:600;margin-top:14px}
dl{display:grid;grid-template-columns:auto 1fr;gap:4px 18px;margin:14px 0 0;font-size:13px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:44px;color:var(--soft);font-size:12px}
@media (max-width:560px){main{padding:20px 14px}h1{font-size:30px}dl{grid-template-columns:1fr}}
"""
