"""Class names in Chinese, by their English ones.

A translation of this project's own, since no package of class names in Chinese is installed with it: of ImageNet's
classes, those whose English name has one plain meaning.  A name that is not here, such as most breeds of dogs and
what two classes share ("crane", "maillot"), stays English, since a wrong name is worse than a foreign one.
"""

from __future__ import annotations

from assay.core.errors import UnknownName

LANGUAGES = ("en", "zh")
_TABLE = """
abacus: 算盘; accordion: 手风琴; acorn: 橡子; acoustic guitar: 木吉他; African crocodile: 非洲鳄;
African elephant: 非洲象; aircraft carrier: 航空母舰; airliner: 客机; airship: 飞艇; albatross: 信天翁;
altar: 祭坛; ambulance: 救护车; American alligator: 美国短吻鳄; American black bear: 美洲黑熊;
analog clock: 模拟时钟; Angora: 安哥拉兔; ant: 蚂蚁; Arabian camel: 单峰骆驼; Arctic fox: 北极狐;
armadillo: 犰狳; artichoke: 洋蓟; axolotl: 美西螈; baboon: 狒狒; backpack: 背包; badger: 獾; bagel: 百吉饼;
bakery: 面包店; balance beam: 平衡木; bald eagle: 白头海雕; balloon: 气球; ballpoint: 圆珠笔; banana: 香蕉;
banjo: 班卓琴; barber chair: 理发椅; barn: 谷仓; barometer: 气压计; baseball: 棒球; basketball: 篮球;
bassoon: 巴松管; bathtub: 浴缸; beagle: 比格犬; beaver: 河狸; bee: 蜜蜂; beer bottle: 啤酒瓶;
beer glass: 啤酒杯; bell pepper: 甜椒; bikini: 比基尼; binoculars: 双筒望远镜; birdhouse: 鸟屋; bison: 野牛;
black swan: 黑天鹅; bloodhound: 寻血猎犬; bookcase: 书柜; bookshop: 书店; Border collie: 边境牧羊犬;
brassiere: 胸罩; broccoli: 西兰花; broom: 扫帚; brown bear: 棕熊; bubble: 气泡; bucket: 水桶;
bullet train: 高速列车; bulletproof vest: 防弹衣; bullfrog: 牛蛙; burrito: 墨西哥卷饼; cab: 出租车;
can opener: 开罐器; candle: 蜡烛; cannon: 大炮; canoe: 独木舟; carbonara: 奶油培根意面; castle: 城堡;
cauliflower: 花椰菜; cello: 大提琴; centipede: 蜈蚣; chain: 链条; chain saw: 电锯; cheeseburger: 芝士汉堡;
cheetah: 猎豹; Chihuahua: 吉娃娃; chimpanzee: 黑猩猩; chow: 松狮犬; church: 教堂; cicada: 蝉; cliff: 悬崖;
cock: 公鸡; cockroach: 蟑螂; coffee mug: 咖啡杯; coffeepot: 咖啡壶; comic book: 漫画书; common iguana: 绿鬣蜥;
computer keyboard: 电脑键盘; convertible: 敞篷车; coral reef: 珊瑚礁; corn: 玉米; cougar: 美洲狮;
cowboy hat: 牛仔帽; coyote: 郊狼; crossword puzzle: 填字游戏; cucumber: 黄瓜; cup: 杯子; daisy: 雏菊;
dalmatian: 斑点狗; dam: 水坝; desk: 书桌; desktop computer: 台式电脑; digital clock: 数字时钟;
digital watch: 数字手表; dingo: 澳洲野犬; dishwasher: 洗碗机; Doberman: 杜宾犬; doormat: 门垫; dragonfly: 蜻蜓;
drum: 鼓; dumbbell: 哑铃; dung beetle: 蜣螂; echidna: 针鼹; eel: 鳗鱼; eggnog: 蛋奶酒; Egyptian cat: 埃及猫;
electric fan: 电风扇; electric guitar: 电吉他; electric ray: 电鳐; envelope: 信封; espresso: 浓缩咖啡;
espresso maker: 意式咖啡机; fig: 无花果; fire engine: 消防车; flamingo: 火烈鸟; flute: 长笛; fly: 苍蝇;
forklift: 叉车; fountain: 喷泉; fountain pen: 钢笔; freight car: 货运车厢; French horn: 法国号;
French loaf: 法棍面包; frying pan: 煎锅; garbage truck: 垃圾车; gasmask: 防毒面具; gazelle: 瞪羚;
German shepherd: 德国牧羊犬; geyser: 间歇泉; giant panda: 大熊猫; gibbon: 长臂猿; golden retriever: 金毛寻回犬;
goldfish: 金鱼; golf ball: 高尔夫球; gondola: 贡多拉; gong: 锣; goose: 鹅; gorilla: 大猩猩;
grand piano: 三角钢琴; grasshopper: 蚱蜢; Great Dane: 大丹犬; great white shark: 大白鲨; greenhouse: 温室;
grey whale: 灰鲸; groom: 新郎; guinea pig: 豚鼠; hair spray: 发胶; hammer: 锤子; hammerhead: 锤头鲨;
hamper: 洗衣篮; hamster: 仓鼠; hare: 野兔; harmonica: 口琴; harp: 竖琴; hay: 干草; hen: 母鸡;
hermit crab: 寄居蟹; hippopotamus: 河马; hotdog: 热狗; hourglass: 沙漏; hummingbird: 蜂鸟; hyena: 鬣狗;
ice bear: 北极熊; ice cream: 冰淇淋; ice lolly: 冰棒; Indian cobra: 印度眼镜蛇; Indian elephant: 亚洲象;
iron: 熨斗; jackfruit: 菠萝蜜; jaguar: 美洲豹; jean: 牛仔裤; jeep: 吉普车; jellyfish: 水母;
jigsaw puzzle: 拼图; jinrikisha: 人力车; joystick: 操纵杆; killer whale: 虎鲸; kimono: 和服; king crab: 帝王蟹;
king penguin: 王企鹅; knot: 绳结; koala: 考拉; Komodo dragon: 科莫多巨蜥; Labrador retriever: 拉布拉多寻回犬;
ladle: 长柄勺; ladybug: 瓢虫; lakeside: 湖畔; lampshade: 灯罩; laptop: 笔记本电脑; lawn mower: 割草机;
leatherback turtle: 棱皮龟; lemon: 柠檬; leopard: 豹; lesser panda: 小熊猫; library: 图书馆; lifeboat: 救生艇;
lighter: 打火机; limousine: 豪华轿车; lion: 狮子; lipstick: 口红; llama: 大羊驼; loggerhead: 蠵龟;
loudspeaker: 扬声器; lynx: 猞猁; macaw: 金刚鹦鹉; magpie: 喜鹊; mailbox: 邮箱; mantis: 螳螂;
mashed potato: 土豆泥; matchstick: 火柴; meerkat: 狐獴; menu: 菜单; microphone: 麦克风; microwave: 微波炉;
minibus: 小型巴士; missile: 导弹; mitten: 连指手套; monarch: 帝王蝶; monastery: 修道院; mongoose: 獴;
monitor: 显示器; mosque: 清真寺; mosquito net: 蚊帐; mountain bike: 山地自行车; mountain tent: 登山帐篷;
mouse: 鼠标; mousetrap: 捕鼠器; mushroom: 蘑菇; nail: 钉子; necklace: 项链; oboe: 双簧管;
oil filter: 机油滤清器; orange: 橙子; orangutan: 红毛猩猩; organ: 管风琴; ostrich: 鸵鸟; ox: 牛;
oxygen mask: 氧气面罩; paddle: 桨; padlock: 挂锁; paintbrush: 画笔; palace: 宫殿; panpipe: 排箫;
parachute: 降落伞; park bench: 公园长椅; parking meter: 停车计时器; passenger car: 客运车厢; peacock: 孔雀;
Pekinese: 北京犬; pelican: 鹈鹕; pencil box: 铅笔盒; pencil sharpener: 卷笔刀; perfume: 香水;
Persian cat: 波斯猫; photocopier: 复印机; piggy bank: 储钱罐; pillow: 枕头; pineapple: 菠萝;
ping-pong ball: 乒乓球; pizza: 披萨; planetarium: 天文馆; plastic bag: 塑料袋; platypus: 鸭嘴兽;
pomegranate: 石榴; Pomeranian: 博美犬; pool table: 台球桌; pop bottle: 汽水瓶; porcupine: 豪猪;
pretzel: 椒盐卷饼; printer: 打印机; projector: 投影仪; promontory: 海角; pug: 巴哥犬; quilt: 被子;
racket: 球拍; radiator: 暖气片; radio: 收音机; radio telescope: 射电望远镜; ram: 公羊; rapeseed: 油菜花;
red fox: 赤狐; red wine: 红葡萄酒; refrigerator: 冰箱; remote control: 遥控器; restaurant: 餐馆;
revolver: 左轮手枪; rifle: 步枪; robin: 知更鸟; rocking chair: 摇椅; Rottweiler: 罗威纳犬; rugby ball: 橄榄球;
rule: 尺子; running shoe: 跑鞋; safe: 保险箱; safety pin: 安全别针; Saint Bernard: 圣伯纳犬; Samoyed: 萨摩耶犬;
sandal: 凉鞋; sax: 萨克斯管; school bus: 校车; schooner: 纵帆船; scorpion: 蝎子; screen: 屏幕; screw: 螺丝;
screwdriver: 螺丝刀; scuba diver: 潜水员; sea anemone: 海葵; sea cucumber: 海参; sea lion: 海狮;
sea urchin: 海胆; seashore: 海滨; seat belt: 安全带; sewing machine: 缝纫机; shield: 盾牌;
shopping basket: 购物篮; shopping cart: 购物车; shovel: 铲子; shower cap: 浴帽; shower curtain: 浴帘;
Siamese cat: 暹罗猫; Siberian husky: 西伯利亚雪橇犬; ski: 滑雪板; skunk: 臭鼬; sleeping bag: 睡袋;
slug: 鼻涕虫; snail: 蜗牛; snow leopard: 雪豹; snowmobile: 雪地摩托; snowplow: 扫雪机; soccer ball: 足球;
sock: 袜子; sombrero: 墨西哥宽边帽; space heater: 电暖器; space shuttle: 航天飞机; speedboat: 快艇;
spider web: 蜘蛛网; sports car: 跑车; stage: 舞台; starfish: 海星; steam locomotive: 蒸汽机车;
stethoscope: 听诊器; stingray: 黄貂鱼; stone wall: 石墙; stopwatch: 秒表; stove: 炉子; strainer: 滤网;
strawberry: 草莓; street sign: 路牌; streetcar: 有轨电车; stretcher: 担架; studio couch: 沙发床;
sturgeon: 鲟鱼; submarine: 潜水艇; suit: 西装; suspension bridge: 悬索桥; swing: 秋千; switch: 开关;
syringe: 注射器; tabby: 虎斑猫; table lamp: 台灯; tank: 坦克; teapot: 茶壶; television: 电视机;
tennis ball: 网球; theater curtain: 剧院幕布; thimble: 顶针; three-toed sloth: 三趾树懒; throne: 宝座;
tiger: 老虎; tiger shark: 虎鲨; timber wolf: 灰狼; toaster: 烤面包机; toilet seat: 马桶座;
toilet tissue: 卫生纸; torch: 火炬; totem pole: 图腾柱; toucan: 巨嘴鸟; tow truck: 拖车; toyshop: 玩具店;
tractor: 拖拉机; traffic light: 红绿灯; tray: 托盘; tree frog: 树蛙; trench coat: 风衣; tricycle: 三轮车;
trimaran: 三体船; tripod: 三脚架; triumphal arch: 凯旋门; trolleybus: 无轨电车; trombone: 长号;
typewriter keyboard: 打字机键盘; umbrella: 雨伞; unicycle: 独轮车; valley: 山谷; vase: 花瓶;
vending machine: 自动售货机; viaduct: 高架桥; violin: 小提琴; volcano: 火山; volleyball: 排球; vulture: 秃鹫;
waffle iron: 华夫饼机; wall clock: 挂钟; wallaby: 沙袋鼠; wardrobe: 衣柜; warplane: 战斗机; warthog: 疣猪;
washbasin: 洗手盆; washer: 洗衣机; water bottle: 水瓶; water buffalo: 水牛; water tower: 水塔; whistle: 哨子;
white wolf: 白狼; wig: 假发; wild boar: 野猪; window screen: 纱窗; wine bottle: 葡萄酒瓶; wok: 炒锅;
wombat: 袋熊; wooden spoon: 木勺; wreck: 沉船; yurt: 蒙古包; zebra: 斑马; zucchini: 西葫芦
"""
CHINESE = dict(pair.strip().split(": ") for pair in _TABLE.replace("\n", " ").split(";"))


def in_language(labels: tuple[str, ...], language: str) -> tuple[str, ...]:
    """Every label as ``中文 (English)`` where there is a translation, else as it is.  Raises UnknownName."""
    if language not in LANGUAGES:
        raise UnknownName("language", language, LANGUAGES)
    return labels if language == "en" else tuple(_translated(label) for label in labels)


def english(label: str) -> str:
    """The English part of what ``in_language`` gives."""
    return label.rpartition(" (")[2].removesuffix(")") if _chinese_first(label) else label


def _translated(label: str) -> str:
    """Labels may list synonyms after a comma; the first one counts."""
    first = label.partition(",")[0].strip()
    found = CHINESE.get(first) or CHINESE.get(first.lower())
    return label if found is None else f"{found} ({first})"


def _chinese_first(label: str) -> bool:
    return bool(label) and "\u2e80" <= label[0] <= "\u9fff"
