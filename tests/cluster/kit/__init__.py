"""A real Kubernetes for the tests, on one machine, without an image registry.

From the shell (with PYTHONPATH=tests/cluster): `python -m kit up`, `status`, `images`, `down`;
docs/how-to/local-cluster.md says more.  From pytest:

    from kit.binaries import binary          # binary("helm"): built on the first call, then cached
    from kit.cluster import Cluster

    cluster = Cluster.up()                   # two nodes; returns the running one where there is one
    cluster = Cluster.up(folder, node_count=0, controllers=True)   # API server, GC and the like
    cluster.kubeconfig                       # a path
    cluster.kubectl("get", "nodes").stdout   # raises KitError with kubectl's words on failure
    cluster.load_images()                    # localhost/oikyo-{operator,trainer}:dev, built
    cluster.load(Path("image.oci.tar"))      # any OCI archive, on every node
    cluster.audit_log                        # JSON lines: who asked the API server for what
    cluster.nodes[0].name, .netns, .inside("ip", "addr")   # a command in the node's namespaces
    cluster.servers                          # [Server(name, pid, started, command)]
    cluster.kill("kubelet-node1"); cluster.restart("kubelet-node1")
    cluster.down()                           # an existing cluster is left as it is

Only a built cluster has nodes and an audit log to offer; kind's and an existing one keep theirs.
"""
