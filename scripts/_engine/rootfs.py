"""What the stand-ins for base images take from this machine: a Debian root filesystem, and the bundle of its CAs.

Neither is committed: they carry this machine's package source and authorities.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import debian
from .places import EngineError

SUITE = "trixie"
BASES = Path(__file__).resolve().parents[2] / "services" / "bases"
ROOTFS = BASES / "debian" / "rootfs.tar"
ROOTFS_STAMP = BASES / "debian" / "rootfs.stamp"
CA_BUNDLE = BASES / "machine" / "ca-certificates.crt"
CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
SCRATCH_BYTES = 1_000_000_000
"""What the root filesystem and its packages take while they are put together."""

# Docker's official Debian images leave these out and give apt these habits; so does the stand-in.
DPKG_SLIM = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/linda/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""
APT_CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
APT_HABITS = """\
Acquire::Languages "none";
Acquire::GzipIndexes "true";
APT::AutoRemove::SuggestsImportant "false";
"""
KEPT_APT_SETTINGS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")

# Hooks of mmdebstrap: "$1" is the root filesystem. What was unpacked before dpkg knew what to leave out is removed.
SLIM = 'mkdir -p "$1"/etc/dpkg/dpkg.cfg.d && cp {scratch}/docker "$1"/etc/dpkg/dpkg.cfg.d/'
REMOVE_DOCS = (
    'cd "$1"/usr/share && rm -rf man/* locale/* info/* groff/* lintian/* && find doc -type f ! -name copyright -delete'
)
APT_CONFIG = 'cp {scratch}/docker-clean {scratch}/docker-habits "$1"/etc/apt/apt.conf.d/'
TIDY = 'cd "$1" && rm -f etc/hostname etc/resolv.conf etc/apt/apt.conf.d/99mmdebstrap var/cache/apt/*.bin'


def prepare() -> bool:
    """Make what is missing or out of date; whether the root filesystem was made.

    Raises:
        EngineError: not root, or something that is needed is not on this machine.
    """
    _copy_ca_bundle()
    stamp = rootfs_stamp()
    if ROOTFS.exists() and ROOTFS_STAMP.exists() and ROOTFS_STAMP.read_text("utf-8").strip() == stamp:
        return False
    if os.geteuid() != 0:
        raise EngineError("only root can make the Debian root filesystem for the base images")
    if not shutil.which("mmdebstrap"):
        debian.install(["mmdebstrap"])
    draft = ROOTFS.with_name("rootfs.new.tar")
    with tempfile.TemporaryDirectory(prefix="buildorch-rootfs-", dir=_scratch_place()) as scratch:
        _mmdebstrap(Path(scratch), draft)
    draft.replace(ROOTFS)
    ROOTFS_STAMP.write_text(f"{stamp}\n", "utf-8")
    return True


def rootfs_stamp() -> str:
    """What the root filesystem is made from: this file, and this machine's package source and apt settings."""
    inputs = (Path(__file__).read_text("utf-8"), _sources(), _apt_settings())
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()


def ca_bundle() -> Path:
    """The bundle that this machine's own clients trust; a closed network's authority is in it."""
    for path in (os.environ.get("SSL_CERT_FILE", ""), *CA_BUNDLES):
        if path and Path(path).is_file():
            return Path(path)
    raise EngineError("no CA bundle on this machine; install ca-certificates, or set SSL_CERT_FILE")


def _copy_ca_bundle() -> None:
    bundle = ca_bundle().read_bytes()
    if not CA_BUNDLE.exists() or CA_BUNDLE.read_bytes() != bundle:
        CA_BUNDLE.parent.mkdir(exist_ok=True)
        CA_BUNDLE.write_bytes(bundle)


def _sources() -> str:
    """This machine's package sources, rewritten for the suite; the image's apt gets them."""
    release = re.compile(f"^{debian.codename()}(?=-|$)")
    # apt in the image trusts Debian's own keys by itself, where they have other file names than here.
    return "\n".join(
        source.deb822(
            [release.sub(SUITE, suite) for suite in source.suites],
            signed_by="/debian-archive-" not in source.signed_by,
        )
        for source in debian.own_sources()
    )


def _apt_settings() -> str:
    """What this machine's apt is told about mirrors that stand still; the image's apt meets the same mirror."""
    command = ["apt-config", "dump", "--format=%f %v%n", *KEPT_APT_SETTINGS]
    dump = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    pairs = (line.split(" ", 1) for line in dump.splitlines())
    return "".join(f'{key} "{value}";\n' for key, value in pairs if key in KEPT_APT_SETTINGS)


def _scratch_place() -> str | None:
    """Memory, if there is enough and programs run on it, which halves the time; else the usual place."""
    try:
        memory = os.statvfs("/dev/shm")  # noqa: S108  a fresh directory is made in it
    except OSError:
        return None
    small = memory.f_bavail * memory.f_frsize < SCRATCH_BYTES
    return None if small or memory.f_flag & (os.ST_NOEXEC | os.ST_NODEV) else "/dev/shm"  # noqa: S108


def _mmdebstrap(scratch: Path, output: Path) -> None:
    """Write the tar of the root filesystem; the same packages give the same bytes."""
    scratch.chmod(0o755)  # apt downloads as a user of its own
    for name, text in {
        "debian.sources": _sources(),
        "docker": DPKG_SLIM,
        "docker-clean": APT_CLEAN,
        "docker-habits": APT_HABITS + _apt_settings(),
        "apt.conf": _apt_settings(),
    }.items():
        (scratch / name).write_text(text, "utf-8")
    hooks = [f"--setup-hook={SLIM}", *(f"--customize-hook={hook}" for hook in (REMOVE_DOCS, APT_CONFIG, TIDY))]
    command = [
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--aptopt={scratch / 'apt.conf'}"),
        *(hook.format(scratch=scratch) for hook in hooks),
        *(SUITE, str(output), str(scratch / "debian.sources")),
    ]
    environment = dict(os.environ, SOURCE_DATE_EPOCH="0", TMPDIR=str(scratch), LC_ALL="C")
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        output.unlink(missing_ok=True)
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise EngineError(f"mmdebstrap could not make the {SUITE} root filesystem:\n{tail}")
