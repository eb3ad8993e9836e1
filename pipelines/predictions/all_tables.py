"""All tables of imported teachers, one behind the other.

pip install '.[pipelines]'
python pipelines/predictions/all_tables.py [--seeds 3]
"""

import argparse
import subprocess
import sys
from pathlib import Path

SCRIPTS = ("tabular.py", "votes.py", "recommender.py", "embeddings.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students to average over")
    options = parser.parse_args()
    for script in SCRIPTS:
        command = [sys.executable, str(Path(__file__).with_name(script)), "--seeds", str(options.seeds)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
