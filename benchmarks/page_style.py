"""The style sheet of the evaluation's page (`page.py`). Data only."""

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#14171c;--soft:#5b6472;--line:#e1e5ea;
--good:#0b8a4b;--fair:#a86500;--bad:#c6303c;--accent:#0a6cff;--del:#c6303c1f;--ins:#0b8a4b22}
@media (prefers-color-scheme:dark){:root{--bg:#0f1216;--card:#191e25;--ink:#eceff3;--soft:#9aa5b3;
--line:#2b323c;
--good:#43c98a;--fair:#e8ab4d;--bad:#ff7a80;--accent:#63a4ff;--del:#ff7a8033;--ins:#43c98a33}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans SC","PingFang SC",
"Microsoft YaHei",sans-serif}
main{max-width:1240px;margin:0 auto;padding:32px 24px 48px}
#truth{position:absolute;opacity:0;pointer-events:none}
h1{font-size:40px;line-height:1.1;margin:0;letter-spacing:-.02em}
h2{font-size:22px;margin:0;letter-spacing:-.01em}
h3{margin:0;font-size:15px}
section{margin-top:40px}
.chips{margin:10px 0 0;display:flex;gap:8px;flex-wrap:wrap}
.chips span{border:1px solid var(--line);background:var(--card);border-radius:99px;padding:2px 12px;
font-size:13px;color:var(--soft)}
.lead{max-width:62ch;color:var(--soft);margin:12px 0 0}
.warning{border:1px solid var(--bad);color:var(--bad);border-radius:10px;padding:10px 14px;max-width:72ch;
font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:14px;margin-top:28px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:14px 18px 10px}
.tile h3{color:var(--soft);font-weight:500;font-size:13px}
.tile p{margin:2px 0 0;display:flex;flex-wrap:wrap;gap:0 14px}
.tile span{white-space:nowrap}
.tile b{font-size:26px;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile small{font-size:14px;font-weight:500;color:var(--soft)}
.tile i{font-style:normal;font-size:12px;color:var(--soft);margin-left:4px}
.scroll{overflow-x:auto;margin-top:14px;background:var(--card);border:1px solid var(--line);
border-radius:14px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 16px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
th:first-child{text-align:left;font-weight:500}
thead th{color:var(--soft);font-weight:500;font-size:13px}
thead i{font-style:normal;opacity:.75}
td small{color:var(--soft);font-size:12px}
td[colspan]{text-align:center}
.figures{table-layout:fixed;min-width:520px}
.none{color:var(--soft)}
.notes{color:var(--soft);font-size:13px;padding-left:20px;margin:12px 0 0}
.head{display:flex;align-items:baseline;justify-content:space-between;gap:16px}
.about{color:var(--soft);margin:2px 0 14px}
.toggle{cursor:pointer;font-size:13px;color:var(--soft);user-select:none;display:flex;gap:8px;
align-items:center}
.toggle span{width:30px;height:18px;border-radius:9px;background:var(--line);position:relative;
transition:background .15s}
.toggle span::after{content:"";position:absolute;inset:2px auto 2px 2px;width:14px;border-radius:50%;
background:var(--card);transition:left .15s}
#truth:checked~main .toggle span{background:#d9ae00}
#truth:checked~main .toggle span::after{left:14px}
#truth:focus-visible~main .toggle span{outline:2px solid var(--accent);outline-offset:2px}
#truth:not(:checked)~main .truth{display:none}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:18px;align-items:start}
article{background:var(--card);border:1px solid var(--line);border-radius:14px;overflow:hidden}
.picture{position:relative;background:#0004}
.picture img{position:absolute;inset:0;width:100%;height:100%;display:block}
.words{padding:12px 16px 10px}
.words h3{display:flex;justify-content:space-between;align-items:baseline;gap:10px;font-size:17px}
.ious{display:flex;gap:8px;font-size:12px;font-weight:500}
.good{color:var(--good)}.fair{color:var(--fair)}.bad{color:var(--bad)}
dl{margin:8px 0 0}
dl+dl{border-top:1px solid var(--line);padding-top:8px}
dl>div{display:grid;grid-template-columns:16px 70px 1fr;column-gap:6px;padding:3px 0}
dl>div::before{grid-row:1;font-weight:700;font-size:13px}
.right::before{content:"\\2713";color:var(--good)}
.wrong::before{content:"\\2717";color:var(--bad)}
.open::before{content:"\\2248";color:var(--soft)}
dt{color:var(--soft);font-size:12px;line-height:22px;overflow-wrap:anywhere}
dd{margin:0;grid-column:3;font-size:14px;overflow-wrap:anywhere}
.true{color:var(--soft);font-size:13px}
del{background:var(--del);text-decoration:none;border-radius:3px}
ins{background:var(--ins);text-decoration:none;border-radius:3px}
.cards h3+dl{margin-top:6px}
.name{margin:8px 0 0;color:var(--soft);font-size:11px}
.kinds td{min-width:84px;padding:5px 12px}
.kinds td:nth-child(2){min-width:0;color:var(--soft)}
.bar{display:block;position:relative;padding-bottom:5px;font-size:13px}
.bar::after{content:"";position:absolute;left:0;bottom:0;height:3px;border-radius:2px;
width:calc(var(--v)*100%);background:currentColor}
.bar::before{content:"";position:absolute;left:0;right:0;bottom:0;height:3px;border-radius:2px;
background:var(--line)}
footer{margin-top:40px;color:var(--soft);font-size:12px;overflow-wrap:anywhere}
footer p{margin:4px 0}
@media (max-width:560px){main{padding:20px 14px}.cards{grid-template-columns:1fr}h1{font-size:32px}}
"""
