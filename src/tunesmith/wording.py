"""Numbers as people read them: short, with a unit, with a true minus sign."""

from math import isfinite

THOUSAND = 1000
MINUTE = 60
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


def fixed(value: float | None, decimals: int) -> str:
    """Return ``value`` with a fixed number of decimals.

    >>> fixed(-0.318, 2)
    '−0.32'
    >>> fixed(-0.001, 2)
    '0.00'
    """
    if value is None or not isfinite(value):
        return NONE
    text = f"{abs(value):.{decimals}f}"
    return MINUS + text if value < 0 and float(text) else text


def signed(value: float, decimals: int) -> str:
    """Return ``value`` with its sign always shown.

    >>> signed(1.25, 1), signed(-3, 1), signed(0, 1)
    ('+1.2', '−3.0', '0.0')
    """
    text = fixed(value, decimals)
    return f"+{text}" if value > 0 and float(text) else text


def many(number: int, what: str) -> str:
    """Return a number of things, the word for one of them given.

    >>> many(1, "row"), many(0, "row"), many(12, "row")
    ('1 row', '0 rows', '12 rows')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def count(value: float) -> str:
    """Return a count with at most three digits and a letter.

    >>> count(950), count(4_884_480), count(134_515_008), count(12_345), count(2e6)
    ('950', '4.88 M', '135 M', '12.3 k', '2 M')
    """
    return _scaled(value, THOUSAND, ("", " k", " M", " G", " T"))


def size(value: float) -> str:
    """Return bytes in powers of 1000.

    >>> size(0), size(19_600_000)
    ('0 B', '19.6 MB')
    """
    return _scaled(value, THOUSAND, (" B", " kB", " MB", " GB", " TB"))


def duration(seconds: float) -> str:
    """Return a time span with its two largest units.

    >>> duration(0.234), duration(9.96), duration(75), duration(7322)
    ('0.23 s', '10 s', '1 min 15 s', '2 h 02 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 10:  # one decimal while there is one digit before it
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, MINUTE)
    if not minutes:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, MINUTE)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def probability(p_value: float) -> str:
    """Return a p-value with its sign of relation.

    >>> probability(0.00004), probability(0.0312)
    ('p < 0.001', 'p = 0.031')
    """
    return "p < 0.001" if p_value < 1 / THOUSAND else f"p = {p_value:.3f}"


def share(part: float, whole: float) -> str:
    """Return a share in per cent with two significant digits.

    >>> share(4_884_480, 139_399_488), share(1, 1), share(1, 0)
    ('3.5 %', '100 %', '–')
    """
    if not whole:
        return NONE
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 or not percent else f"{percent:.2g} %"


def times(measured: float, planned: float) -> str:
    """Return how many times as large as planned something is.

    >>> times(12.5, 10.0), times(1.0, 0.0)
    ('1.25', '–')
    """
    return fixed(measured / planned, 2) if planned else NONE


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    place = 0
    while value >= step - 0.5 and place < len(units) - 1:
        value, place = value / step, place + 1
    decimals = 0 if not place or value >= 99.95 else 1 if value >= 9.995 else 2  # three digits
    text = f"{value:.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if decimals else text) + units[place]


def first_line(error: Exception) -> str:
    """Return what an exception of another library says, its first line only, as a sentence."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return said if said.endswith((".", "!", "?")) else f"{said}."
