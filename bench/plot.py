#!/usr/bin/env python3
"""Draws what bench/results/*.json holds into one PNG: latency by percentile, growth, memory.

usage: bench/plot.py [--results DIR] [--out FILE]
Needs Debian's python3-matplotlib (run it with /usr/bin/python3). Of each bench the latest file is drawn.
"""
import argparse
import json
import pathlib
import sys

WINDOW = 20  # forks that one point of a growth curve is the median of


def latest(results, bench):
    """The rows that were measured here by the latest run of a bench; none: it is not there."""
    files = sorted(results.glob(f'{bench}-*.json'))
    if not files:
        return []
    return [row for row in json.loads(files[-1].read_text())['rows'] if row['place'] == 'here']


def row_of(rows, ending):
    return next((row for row in rows if row['metric'].endswith(ending)), None)


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def draw_percentiles(axes, rows):
    """Each clock of a fork: how many forks had taken at most so long."""
    for ending, label, side in (('first guest instruction', 'floor', 'b'), ('first guest instruction', 'fork', 'a'),
                                ('from a shell: first instruction', 'fork from a shell', 'a')):
        row = row_of(rows, ending)
        if row is not None:
            samples = sorted(row[side])
            axes.plot([100 * (i + 0.5) / len(samples) for i in range(len(samples))], samples, label=label)
    axes.set(title='Fork to first guest instruction', xlabel='percentile', ylabel='us', yscale='log')


def draw_growth(axes, rows):
    """What the n-th of a population cost: the median of a few in a row, over all rounds."""
    for row in rows:
        where, _, what = row['metric'].partition(': ')
        if what != 'each':
            continue
        rounds = len(row_of(rows, f'{where}: all, one by one')['a'])
        for side, label, style in (('b', 'bare VMs', '--'), ('a', 'forks', '-')):
            samples, size = row[side], len(row[side]) // rounds
            points = range(0, size - WINDOW + 1, WINDOW)
            axes.plot([at + WINDOW / 2 for at in points],
                      [median([samples[r * size + at + i] for r in range(rounds) for i in range(WINDOW)]) for at in points],
                      style, label=f'{label}, {where}')
    axes.set(title='The n-th live fork', xlabel='live forks', ylabel='us', ylim=(0, None))


def draw_memory(axes, rows):
    """Host memory of one fork, what counts for the bar and what is beside it."""
    bars = [(row['metric'], row['a'][0]) for row in reversed(rows) if row['a']]
    axes.barh([name for name, _ in bars], [kib for _, kib in bars])
    most = next((row['b'][0] for row in rows if row['b']), None)
    if most is not None:
        axes.axvline(most, linestyle='--', color='grey')
    axes.set(title='Memory of one live fork', xlabel='KiB', xscale='log')


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--results', type=pathlib.Path, default=here / 'results', help='folder of the JSON files')
    parser.add_argument('--out', type=pathlib.Path, default=here / 'results' / 'bench.png', help='the PNG')
    options = parser.parse_args()
    try:
        import matplotlib
    except ImportError:
        sys.exit('plot.py: no matplotlib: apt-get install python3-matplotlib, and run it with /usr/bin/python3')
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, panels = pyplot.subplots(1, 3, figsize=(18, 5), layout='constrained')
    for panel, draw, bench in zip(panels, (draw_percentiles, draw_growth, draw_memory), ('fork', 'growth', 'memory')):
        draw(panel, latest(options.results, bench))
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
        panel.grid(alpha=0.3)
    figure.savefig(options.out, dpi=80)


if __name__ == '__main__':
    main()
