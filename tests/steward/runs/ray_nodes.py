"""A Ray cluster of a head and some nodes on this machine, as a process: it goes when its stdin does.

Started by `test_ray`. Says its dashboard's address in one line, and then obeys `kill NODE-ID`.
"""

import json
import os
import signal
import sys

from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80_000_000}


def main(nodes: int, folder: str) -> None:
    """Runs until stdin ends."""
    os.makedirs(f"{folder}/ray")  # where Ray notes its newest cluster; it does not make it
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0, "temp_dir": folder, **SMALL},
    )
    try:
        started = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(nodes)]
        print(json.dumps({"dashboard": cluster.webui_url, "nodes": [node.node_id for node in started]}), flush=True)
        for line in sys.stdin:
            _, name = line.split()
            (node,) = [each for each in started if each.node_id == name]
            cluster.remove_node(node, allow_graceful=False)
            started.remove(node)
            print(json.dumps({"killed": name}), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main(int(sys.argv[1]), sys.argv[2])
