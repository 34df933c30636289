#!/usr/bin/env python3
"""The house rules as tests: each rule is run over small examples that it must catch (a check that cannot fail is a
defect) and that it must pass, and then over the tree.

usage: check.py [--only RULE] [--path PREFIX] [--list]
  --only RULE     one rule
  --path PREFIX   show findings below this folder only
Standard library only. Reports to $RAMET_TEST_LOG as tests/support/catch_main.cc does; exit 1 when a rule fails.
"""
import argparse
import os
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import rules_code  # noqa: E402
import rules_layers  # noqa: E402
import rules_specification  # noqa: E402
import rules_tools  # noqa: E402
from source import Tree  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SHOWN = 40


def log(line):
    path = os.environ.get('RAMET_TEST_LOG')
    if path:
        with open(path, 'a', encoding='utf-8') as file:
            file.write(line + '\n')


def report(name, check):
    """Runs one check, which returns findings; returns whether it passed."""
    log(f'start\t{name}')
    begun = time.monotonic()
    outcome, why, findings = 'passed', '', []
    try:
        findings = check()
    except rules_tools.Skipped as skipped:
        outcome, why = 'skipped', str(skipped)
    if findings:
        outcome, why = 'failed', f'{len(findings)} findings'
    log(f'end\t{name}\t{outcome}\t{time.monotonic() - begun:.3f}\t{why}')
    if outcome != 'passed':
        print(f'{outcome.upper()} {name}: {why}')
        for finding in findings[:SHOWN]:
            print(f'  {finding}')
        if len(findings) > SHOWN:
            print(f'  ... and {len(findings) - SHOWN} more')
    return outcome != 'failed'


def self_test(check, bad, good):
    """What is wrong with the check itself."""
    wrong = [f'passes a bad example: {tree.files}' for tree in bad if not check(tree)]
    for tree in good:
        wrong += [f'fails a good example: {finding}' for finding in check(tree)]
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', metavar='RULE')
    parser.add_argument('--path', metavar='PREFIX', default='')
    parser.add_argument('--list', action='store_true')
    arguments = parser.parse_args()
    rules = [rule for module in (rules_layers, rules_code, rules_tools, rules_specification) for rule in module.RULES]
    if arguments.list:
        for name, check, _, _ in rules:
            print(f'{name:18} {check.__doc__.strip().splitlines()[0]}')
        return 0
    if arguments.only:
        rules = [rule for rule in rules if rule[0] == arguments.only]
        if not rules:
            parser.error(f'no rule {arguments.only}; --list names them')
    log('program')
    tree = Tree.read(ROOT)
    good = True
    for name, check, bad, fine in rules:
        title = f'{name}: {check.__doc__.strip().splitlines()[0]}'
        good &= report(f'{name}: the rule catches its bad examples and passes its good ones',
                       lambda check=check, bad=bad, fine=fine: self_test(check, bad, fine))
        good &= report(title, lambda check=check: [f for f in check(tree) if f.startswith(arguments.path)])
    print(f'{len(rules)} rules over {len(tree.files)} files')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
