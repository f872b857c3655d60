"""Plots, as SVG, of what benches/load/run has measured."""

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 420, 300, 56, 34, 44, 30
COLOURS = {"ringback": "#0b6e4f", "rtpengine": "#b3541e"}
TITLES = ("CPU-ms a call-second", "delay up, ms: p50 and p99")


def steps(most):
    """Round numbers from 0 to at least `most`, five or so."""
    most = max(most, 0.5)
    for unit in (0.5, 1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000):
        if most <= 5 * unit:
            return [unit * n for n in range(int(-(-most // unit)) + 1)]
    return [0, most]


def panel(x, title, lines, unit):
    """One drawing: `lines` are (colour, dash, points)."""
    across = steps(max(calls for _, _, points in lines for calls, _ in points))
    up = steps(max(value for _, _, points in lines for _, value in points))
    width, height = WIDTH - LEFT - 10, HEIGHT - TOP - BOTTOM

    def place(calls, value):
        return x + LEFT + width * calls / across[-1], TOP + height * (1 - value / up[-1])

    out = [f'<text x="{x + LEFT}" y="{TOP - 14}" font-weight="bold">{title}</text>']
    for value in up:
        (left, y), (right, _) = place(0, value), place(across[-1], value)
        out.append(f'<path d="M{left:.0f} {y:.1f}H{right:.0f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for calls in across:
        at, y = place(calls, 0)
        out.append(f'<text x="{at:.1f}" y="{y + 16:.0f}" text-anchor="middle">{calls:g}</text>')
    middle, bottom = place(across[-1] / 2, 0)
    out.append(f'<text x="{middle:.0f}" y="{bottom + 34:.0f}" text-anchor="middle">{unit}</text>')
    for colour, dash, points in lines:
        path = " ".join(f"{at:.1f},{y:.1f}" for at, y in (place(*point) for point in points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        out += [f'<circle cx="{at:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for at, y in (place(*point) for point in points)]
    return out


def drawing(title, panels, legend=()):
    """Panels, (title, lines), side by side; `legend`: (colour, name)."""
    kept = [(name, lines, unit) for name, lines, unit in panels if lines]
    parts = []
    for number, (name, lines, unit) in enumerate(kept):
        parts += panel(number * (WIDTH + GAP), name, lines, unit)
    for number, (colour, name) in enumerate(legend):
        parts.append(f'<text x="{LEFT + 200 + 90 * number}" y="{TOP - 14}" fill="{colour}">{name}</text>')
    width = max(1, len(kept)) * (WIDTH + GAP) - GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="12" role="img">'
    back = f'<rect width="{width}" height="{HEIGHT}" fill="white"/>'
    return "\n".join([head, f"<title>{title}</title>", back, *parts, "</svg>", ""])


def over_calls(rows):
    """`rows`: of each gateway's name the rows of its measurement."""
    cpu, delay = [], []
    for name, found in rows.items():
        points = [(row["calls"], row["cpu_ms_per_call_second"]) for row in found if row["cpu_ms_per_call_second"] is not None]
        if points:
            cpu.append((COLOURS[name], "", points))
        heard = [row for row in found if row["up"]["delay_ms"]]
        for dash, part in (("", "p50"), ("5 4", "p99")):
            if heard:
                delay.append((COLOURS[name], dash, [(row["calls"], row["up"]["delay_ms"][part]) for row in heard]))
    panels = [(title, lines, "calls") for title, lines in zip(TITLES, (cpu, delay))]
    return drawing("; ".join(TITLES), panels, [(COLOURS[name], name) for name in rows])


def over_time(samples):
    """The samples of a soak; those that are void have memory alone."""
    colour, panels = COLOURS["ringback"], []
    for key, title, valid in (
        ("mib", "memory, MiB", False), ("lateness_p99_ms", "lateness p99, ms", True), ("cpu_ms_per_call_second", TITLES[0], True),
    ):  # fmt: skip
        points = [(sample["minute"], sample[key]) for sample in samples if sample[key] is not None and not (valid and sample["void"])]
        panels.append((title, [(colour, "", points)] if points else [], "minutes"))
    return drawing("memory, lateness and processor time over time", panels)
