"""The kinds of objects the world holds, and what is said of each, in English and Chinese. Data only.

Nothing here knows how a kind is drawn; `shapes.py` does. Definitions say what an object is, functions what it
is for; both are fixed sentences, so an answer can be compared word for word.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of object. `name` is its English category; `measure` the Chinese measure word before it."""

    name: str
    zh: str
    measure: str
    definition: str
    function: str
    definition_zh: str
    function_zh: str
    pair: bool = False  # named as "a pair of ..."


KINDS: tuple[Kind, ...] = (
    Kind("key", "钥匙", "把",
         "A small metal tool cut to fit one lock.", "It opens and locks doors.",
         "与锁相配的金属小工具。", "用来开门和锁门。"),
    Kind("cup", "杯子", "个",
         "A drinking vessel with a handle at its side.", "It holds tea, coffee and other drinks.",
         "侧面带把手的饮水器皿。", "用来盛茶、咖啡等饮料。"),
    Kind("umbrella", "雨伞", "把",
         "A folding canopy of cloth on a rod.", "It keeps the rain off people.",
         "撑在伞杆上的可折叠布篷。", "用来遮挡雨水。"),
    Kind("scissors", "剪刀", "把",
         "A hand tool of two blades joined by a pivot.", "They cut paper and cloth.",
         "由两片刀刃铰接而成的手工工具。", "用来裁剪纸张和布料。", pair=True),
    Kind("hammer", "锤子", "把",
         "A tool with a heavy metal head on a handle.", "It drives nails into wood.",
         "手柄上装有沉重金属头的工具。", "用来把钉子敲进木头。"),
    Kind("bottle", "瓶子", "个",
         "A tall container with a narrow neck and a cap.", "It stores water and other liquids.",
         "颈部细长、带盖的容器。", "用来储存水等液体。"),
    Kind("lamp", "台灯", "盏",
         "A light with a shade that stands on a table.", "It lights up a desk or a room.",
         "放在桌上、带灯罩的灯具。", "用来照亮书桌或房间。"),
    Kind("clock", "闹钟", "个",
         "A small timepiece with bells on its top.", "It shows the time and wakes people up.",
         "顶部装有铃铛的小型计时器。", "用来显示时间并叫人起床。"),
    Kind("book", "书", "本",
         "A set of printed pages bound inside a cover.", "It is read to learn or to enjoy a story.",
         "装订在封面里的印刷书页。", "用来阅读和学习知识。"),
    Kind("hat", "帽子", "顶",
         "A head covering with a crown and a brim.", "It shades the face from the sun.",
         "有帽顶和帽檐的头部服饰。", "用来为面部遮阳。"),
    Kind("boot", "靴子", "只",
         "A sturdy shoe that also covers the ankle.", "It keeps the foot warm and dry.",
         "包住脚踝的结实鞋子。", "用来让脚保持温暖干燥。"),
    Kind("shirt", "短袖衫", "件",
         "A light garment with short sleeves.", "It covers the upper body.",
         "带短袖的轻便上衣。", "用来遮盖上身。"),
    Kind("trousers", "裤子", "条",
         "A garment with one long tube for each leg.", "They cover the body from waist to ankle.",
         "每条腿各有一个裤管的服装。", "用来遮盖腰部到脚踝。", pair=True),
    Kind("backpack", "背包", "个",
         "A bag with two straps for the shoulders.", "It carries books and clothes on the back.",
         "带两条肩带的包。", "用来把书和衣物背在背上。"),
    Kind("car", "汽车", "辆",
         "A road vehicle with four wheels and an engine.", "It takes people from place to place.",
         "有四个轮子和发动机的道路车辆。", "用来载人前往各地。"),
    Kind("sailboat", "帆船", "艘",
         "A boat with a mast that carries sails.", "It travels over water by the wind.",
         "桅杆上挂着船帆的船。", "用来借助风力在水上航行。"),
    Kind("airplane", "飞机", "架",
         "A flying machine with fixed wings.", "It carries people through the air.",
         "有固定机翼的飞行器。", "用来在空中运送旅客。"),
    Kind("apple", "苹果", "个",
         "A round fruit with crisp flesh and a core.", "It is eaten fresh or baked in pies.",
         "果肉清脆、带果核的圆形水果。", "可以生吃或做成馅饼。"),
    Kind("banana", "香蕉", "根",
         "A long curved fruit with a thick soft peel.", "It is peeled and eaten as a snack.",
         "外皮厚而软的弯长水果。", "剥皮后可当点心吃。"),
    Kind("mushroom", "蘑菇", "朵",
         "A fungus with a wide cap on a stem.", "It is cooked in soups and sauces.",
         "菌柄上长着宽大菌盖的真菌。", "可以用来煮汤和做酱。"),
    Kind("flower", "花", "朵",
         "The blossom of a plant with a ring of petals.", "It attracts bees and decorates a home.",
         "由一圈花瓣组成的植物花朵。", "用来吸引蜜蜂、装饰房间。"),
    Kind("kite", "风筝", "只",
         "A light frame covered with paper, with a tail.", "It is flown in the wind on a string.",
         "蒙着纸、带尾巴的轻骨架。", "用线牵着在风中放飞。"),
    Kind("guitar", "吉他", "把",
         "A stringed instrument with a hollow body and a neck.", "It is plucked to play music.",
         "有空心琴身和琴颈的弦乐器。", "用手拨弦来演奏音乐。"),
    Kind("bell", "铃铛", "个",
         "A hollow metal body with a clapper inside.", "It rings to call people.",
         "内有铃舌的空心金属体。", "用响声来召唤人们。"),
    Kind("teapot", "茶壶", "把",
         "A round pot with a spout, a lid and a handle.", "It brews and pours tea.",
         "带壶嘴、壶盖和把手的圆壶。", "用来泡茶和倒茶。"),
    Kind("fork", "叉子", "把",
         "A piece of cutlery with several tines.", "It lifts food to the mouth.",
         "带有几个尖齿的餐具。", "用来把食物送到嘴里。"),
    Kind("glasses", "眼镜", "副",
         "Two lenses in a frame worn before the eyes.", "They help people see clearly.",
         "戴在眼前、镶有两片镜片的镜架。", "用来帮助人们看清东西。", pair=True),
    Kind("camera", "相机", "台",
         "A box with a lens that records light.", "It takes photographs.",
         "带镜头、能记录光线的盒子。", "用来拍摄照片。"),
    Kind("pencil", "铅笔", "支",
         "A wooden stick with a core of graphite.", "It is used to write and draw.",
         "内有石墨笔芯的木杆。", "用来写字和画画。"),
    Kind("crown", "皇冠", "顶",
         "A pointed ring set with pearls for the head.", "It shows that its wearer rules.",
         "镶有珍珠、带尖角的头饰。", "用来表明佩戴者是君主。"),
    Kind("magnet", "磁铁", "块",
         "A piece of iron bent like a horseshoe.", "It attracts objects made of iron.",
         "弯成马蹄形的铁块。", "用来吸引铁制物品。"),
    Kind("padlock", "挂锁", "把",
         "A lock with a steel bow that snaps shut.", "It secures gates and boxes.",
         "带可扣合钢制锁梁的锁。", "用来锁住大门和箱子。"),
    Kind("gift", "礼盒", "个",
         "A box tied with a ribbon and a bow.", "It is given to please someone.",
         "系着丝带和蝴蝶结的盒子。", "用来送人，让对方高兴。"),
    Kind("ice cream", "冰淇淋", "支",
         "A frozen sweet served in a cone.", "It cools people on hot days.",
         "盛在蛋筒里的冷冻甜品。", "在热天给人们解暑。"),
    Kind("duck", "橡皮鸭", "只",
         "A floating bath toy shaped like a water bird.", "It amuses children in the bath.",
         "形似水鸟、能漂浮的洗澡玩具。", "用来在洗澡时逗孩子开心。"),
    Kind("chair", "椅子", "把",
         "A seat with a back and four legs.", "It gives one person a place to sit.",
         "有靠背和四条腿的坐具。", "供一个人坐着休息。"),
)  # fmt: skip

COLOUR_ZH: dict[str, str] = {
    "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色", "blue": "蓝色",
    "purple": "紫色", "pink": "粉色", "brown": "棕色", "white": "白色", "black": "黑色",
}  # fmt: skip
PATTERN_ZH: dict[str, str] = {"plain": "纯色", "striped": "条纹", "dotted": "圆点", "checked": "格子"}
SIZE_ZH: dict[str, str] = {"small": "小号", "medium": "中号", "large": "大号"}
PLACE_ZH: dict[str, str] = {
    "top left": "左上方", "top": "上方", "top right": "右上方",
    "left": "左侧", "centre": "中央", "right": "右侧",
    "bottom left": "左下方", "bottom": "下方", "bottom right": "右下方",
}  # fmt: skip


def kind_named(name: str) -> Kind:
    """The kind of that English name. KeyError where there is none."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise KeyError(name)
