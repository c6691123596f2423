# SPDX-License-Identifier: Apache-2.0
# Shared by the bats files of this folder.

# Built programs, also for tests in folders of the build directory.
SLUICE_BUILD=$(realpath "${SLUICE_BUILD:-$BATS_TEST_DIRNAME/../../build}")
# Debian's reference plugins.
CNI_PLUGINS=${CNI_PLUGINS:-/usr/lib/cni}

# Skips the test, with the reason printed, unless all these programs are there.
need() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}
