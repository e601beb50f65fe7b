"""The parts of scripts/engine, with-engine and bases-rootfs. Standard library only, Python 3.9 or later.

One engine
    places.py     where its things are, what it remembers, the error all parts raise
    daemons.py    dockerd and the registry: whether they answer, starting them
    network.py    its bridge, its firewall rules, a free network for it
    processes.py  what it has running, and ending it: processes, mounts, control groups
    packages.py   the programs it needs, in which versions, and installing them
The base images where no hub answers
    standins.py   whether the stand-ins are needed and current, and building them
    mirror.py     the registry they are put into
    rootfs.py     what they take from this machine: a Debian root filesystem, the CA bundle
Both
    debian.py     Debian's package source, and apt
"""
