"""One colour for each category, the same in every picture of every run: it depends on the category index alone.

    red, green, blue = colour(3)
    pattern(300), ink(300)         # how a category above 256 differs from the one that has its colour, or None

No two of the 256 colours are nearer than 6.9 by CIEDE2000, of the first 171 than 8, of the first 21 than 19 (below 5,
patches that do not touch look equal). A category above them has one of their colours, a shade off in blue, striped.
"""

from dataclasses import dataclass

from scclip.categories import BACKGROUND

Colour = tuple[int, int, int]  # sRGB, 0..255

BACKGROUND_COLOUR: Colour = (128, 128, 128)
# Hexadecimal digits of R, G, B (× 17). After eight chosen ones each next colour is, of all multiples of 17 with OKLab
# lightness 0.4 to 0.93 and chroma 0.04 up, the one whose nearest colour before it, grey included, is farthest.
DIGITS = (
    "37d3a4d33fa284b2bcf7b752054de0ddfbec814fba980460a8e0f5c60278967446edb8107bfd099a8befb9700d086b9a"
    "0caf770fff2ffbf0586449b3775779f85db0717f0609c965a6a55f4fb940680be8fcd974aac553f40699746a2344aa5f"
    "ba6c787c88abe8f156082c82eb84c1576163c87b468ba7603cf79c689685ed877ca07abff9ab2070ff80843fdcaf10a7"
    "a8bc0d569c6407a088cda6480a98ddf3916662ad9ccaffc609f550bdf884d5b657ab7a55a0a754c8596005ccc4aa0977"
    "daa09a673f54c66dbda53845c7aa75764467697ca9f680d676a6a1d04afbb58fa79868597a6bb9c400fdc90f98fd08cd"
    "56486803f352a8773373088bacac6e89188f96c248f6d474de7a49ba80deda5060ad4076faca0f9710d977148bb88457"
    "56c08aa253909fda621ace459975dccbef60855c7c8db579947e1065b2956427949c6acdd9758fd887258e87bba79d17"
    "06b6637566364778646e0d578126b94aafb0896a01365f9ea840cc740cc88ef99d7bdad9370487d74beeb5c85369bddb"
)
COLOURS = len(DIGITS) // 3
PATTERNS = 16  # as many shades of blue do not reach the next colour
ANGLES = (0, 45, 90, 135)  # degrees


@dataclass(frozen=True)
class Pattern:
    """Stripes."""

    angle: int
    """Degrees by which they are turned to the right from lying."""
    period: int
    """Pixels from one to the next; two of them are ink."""


def colour(category: int) -> Colour:
    """The colour of a category index; grey for the background. No two below 4,097 are equal."""
    if category == BACKGROUND:
        return BACKGROUND_COLOUR
    row, column = divmod(category - 1, COLOURS)
    red, green, blue = (17 * int(digit, 16) for digit in DIGITS[3 * column : 3 * column + 3])
    return red, green, blue ^ row % PATTERNS


def pattern(category: int) -> Pattern | None:
    """The stripes of a category; None where its colour is its own."""
    row = max(category - 1, 0) // COLOURS % PATTERNS
    return Pattern(ANGLES[(row - 1) % 4], 8 + 4 * ((row - 1) // 4)) if row > 0 else None


def ink(category: int) -> Colour:
    """The colour of a category's stripes: black on light, white on dark."""
    red, green, blue = colour(category)
    return (0, 0, 0) if 2 * red + 5 * green + blue > 8 * 110 else (255, 255, 255)


def css_colour(category: int) -> str:
    """The colour of a category as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour(category))


def css_ink(category: int) -> str:
    """The colour of a category's stripes as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*ink(category))
