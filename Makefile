# SPDX-License-Identifier: Apache-2.0

MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/bash
# --norc: bash reads its start files when its input is a socket, as under a remote shell.
.SHELLFLAGS := --norc -euo pipefail -c
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Settings are read by the steps themselves, from the environment or from this command line; the
# ones with a value here are those that make needs too. `make help` lists them all.
DISTRO ?= ubuntu
WORKDIR ?= workdir
ROOTFS_BUILD_DEST ?= $(WORKDIR)
IMAGES_BUILD_DEST ?= $(WORKDIR)
# The one clock of everything made. Unit: seconds since 1970.
SOURCE_DATE_EPOCH ?= $(shell git -c safe.directory="$$PWD" log -1 --format=%ct 2>/dev/null)
BUILD_METHOD ?= distro
TARGET ?= image
export DISTRO WORKDIR ROOTFS_BUILD_DEST IMAGES_BUILD_DEST SOURCE_DATE_EPOCH BUILD_METHOD

# zx would take these from the caller's shell.
unexport ZX_PREFIX ZX_POSTFIX ZX_SHELL ZX_VERBOSE

# What `sudo make` compiles and installs belongs to who called sudo, so that a later make works without.
AS_CALLER := $(if $(SUDO_UID),setpriv --reuid=$(SUDO_UID) --regid=$(SUDO_GID) --clear-groups)

SOURCES := $(shell find scripts rootfs-builder image-builder initrd-builder kernel dracut proof tests -name '*.ts' 2>/dev/null)
COMPILED := build/.compiled
# What a build starts, and what that starts as workers, is put into few files, with the packages: Node takes half
# a millisecond to find and check each module. What only some builds load is in files of its own, and cpio-stream
# stays where it is: Node warns of an old call in it that it forgives packages.
BUNDLED := scripts/steps scripts/hash-worker rootfs-builder/rootfs initrd-builder/initrd \
  image-builder/image image-builder/verity-worker image-builder/filesystem/erofs-worker
INSTALLED := node_modules/.package-lock.json
# Node reads NODE_EXTRA_CA_CERTS whenever it starts, for 40 ms; the steps do when they ask by https (download.ts).
# With NODE_OPTIONS, which may say other things about certificates, or a proxy that is itself asked by https, it is
# left to Node.
ifeq ($(value NODE_OPTIONS)$(filter https:%,$(value http_proxy) $(value HTTP_PROXY)),)
CERTIFICATES := $(if $(value NODE_EXTRA_CA_CERTS),OSBUILDER_EXTRA_CA_CERTS="$$NODE_EXTRA_CA_CERTS" NODE_EXTRA_CA_CERTS=)
endif
RUN := $(CERTIFICATES) node build
# Tests are given all of the environment: they run make, and that npm.
TESTS := node build/tests

STEPS := $(RUN)/bundle/scripts/steps.js
ROOTFS_OF_DISTRO := $(RUN)/bundle/rootfs-builder/rootfs.js
IMAGE_STEP := $(RUN)/bundle/image-builder/image.js
INITRD_STEP := $(RUN)/bundle/initrd-builder/initrd.js
KERNEL_STEP := $(RUN)/kernel/kernel.js
LOCK_STEP := $(RUN)/$(if $(filter kernel,$(TARGET)),kernel,rootfs-builder)/lock.js
BOOT_STEP := $(RUN)/scripts/boot/boot.js

##@ Build
.PHONY: rootfs image initrd all
rootfs: $(COMPILED) ## Build the root filesystem of DISTRO
	@$(ROOTFS_OF_DISTRO)

image: $(COMPILED) ## Build the disk image, with its rootfs
	@$(STEPS) rootfs -- image

initrd: $(COMPILED) ## Build the initrd, with its rootfs
	@$(STEPS) rootfs -- initrd

all: rootfs ## Build image and initrd, both at once
	@$(MAKE) --jobs=2 pack-image pack-initrd

.PHONY: pack-image pack-initrd
pack-image: $(COMPILED) ## Pack the rootfs as it is into a disk image
	@$(IMAGE_STEP)

pack-initrd: $(COMPILED) ## Pack the rootfs as it is into an initrd
	@$(INITRD_STEP)

rootfs-%: $(COMPILED) ## Build the rootfs of the distro named in the target
	@DISTRO=$* $(ROOTFS_OF_DISTRO)

image-%: $(COMPILED) ## Build the image of the distro named in the target
	@DISTRO=$* $(STEPS) rootfs -- image -o "$$IMAGES_BUILD_DEST/kata-containers-image-$*.img"

initrd-%: $(COMPILED) ## Build the initrd of the distro named in the target
	@DISTRO=$* $(STEPS) rootfs -- initrd -o "$$IMAGES_BUILD_DEST/kata-containers-initrd-$*.img"

##@ Kernel
.PHONY: kernel-src kernel kernel-config kernel-menuconfig kernel-diff install-kernel
kernel-src: $(COMPILED) ## Fetch, verify and patch the sources of the guest kernel
	@$(KERNEL_STEP) -s

kernel: $(COMPILED) ## Build the guest kernel, with its sources
	@$(KERNEL_STEP)

kernel-config: $(COMPILED) ## Configure the guest kernel and check that every symbol took
	@$(KERNEL_STEP) -c

kernel-menuconfig: $(COMPILED) ## Change the configuration in a menu; the difference becomes a fragment
	@$(RUN)/kernel/menuconfig.js

kernel-diff: $(COMPILED) ## Compare two kernel configurations by meaning: A= and B=
	@$(RUN)/kernel/diff.js "$${A-}" "$${B-}"

install-kernel: $(COMPILED) ## Install the kernel to DESTDIR/PREFIX/share/kata-containers
	@$(RUN)/kernel/install.js

##@ Boot
.PHONY: boot dev shell
# With an artifact of the same command line, that one is booted; else the newest there is.
boot: $(if $(filter image initrd all,$(MAKECMDGOALS)),,$(if $(filter initrd,$(BOOT)),initrd,image)) ## Build what is missing, boot it in QEMU and ask its agent
	@$(BOOT_STEP)

dev: $(COMPILED) ## Build and boot the initrd again whenever agent or overlay change
	@$(RUN)/scripts/dev.js

shell: $(COMPILED) ## Boot the newest artifact and give a console
	@$(BOOT_STEP) -i

##@ Host
.PHONY: setup check-deps
setup: $(COMPILED) ## Install the host packages that are missing, each with its reason
	@$(RUN)/scripts/setup.js $(MAKECMDGOALS)

check-deps: $(COMPILED) ## Tell which host packages are missing, per target
	@$(RUN)/scripts/setup.js -n $(MAKECMDGOALS)

##@ Lock
.PHONY: lock lock-update vendor
lock: $(COMPILED) ## Write the packages of the guest to LOCK_FILE; TARGET=kernel: its sources
	@$(LOCK_STEP)

lock-update: $(COMPILED) ## Show what would change in LOCK_FILE; WRITE=yes writes it
	@$(LOCK_STEP) -u

vendor: $(COMPILED) ## Gather all that LOCK_FILE names in VENDOR_DIR
	@$(RUN)/scripts/package-lock/vendor.js

##@ Proof
.PHONY: sbom sign verify repro
sbom: $(COMPILED) ## Write SBOMs and provenance beside what was built
	@$(RUN)/proof/sbom.js

sign: $(COMPILED) ## Sign what was built, its manifest, SBOMs and provenance with SIGN_KEY
	@$(RUN)/proof/sign.js

verify: $(COMPILED) ## Check signatures, manifests, root hash and SBOMs against what is there
	@$(RUN)/proof/verify.js

repro: $(filter rootfs image initrd kernel,$(TARGET)) $(COMPILED) ## Build TARGET a second time under disturbances, and tell why bytes differ
	@$(RUN)/proof/repro.js

##@ Cache
.PHONY: why cache cache-clean
why: $(COMPILED) ## Tell per stage of TARGET what would be built, and what changed
	@lines="$$($(ROOTFS_OF_DISTRO) -w)"; printf '%s\n' "$$lines"; \
	case "$(TARGET):$$lines" in \
	rootfs:*) ;; \
	kernel:*) echo 'ERROR TARGET=kernel: make why explains rootfs, image and initrd' >&2; exit 64 ;; \
	*' built   '*) printf '  WHY     %-12s built    its rootfs is built\n' "$(TARGET)" ;; \
	*) $(RUN)/bundle/$(TARGET)-builder/$(TARGET).js -w ;; \
	esac

cache: $(COMPILED) ## Show what the cache holds: size, stage and age
	@$(RUN)/scripts/cache-clean.js -n

cache-clean: $(COMPILED) ## Remove from the cache what was not used for longest, but KEEP of it
	@$(RUN)/scripts/cache-clean.js

##@ Tests
.PHONY: test test-image-only test-initrd-only test-kernel test-long check lint bench
test: lint ## Run all tests: checks, unit tests, builds and boots
	@$(TESTS)/run.js unit build kernel

test-image-only: $(COMPILED) ## Build and boot the disk images only
	@$(TESTS)/run.js boot-image

test-initrd-only: $(COMPILED) ## Build and boot the initrds only
	@$(TESTS)/run.js boot-initrd

test-kernel: $(COMPILED) ## Build and boot the guest kernels only
	@$(TESTS)/run.js kernel

test-long: $(COMPILED) ## Soak tests, for running by hand
	@$(TESTS)/run.js long

check: lint ## Check format, lint and types, and run the unit tests
	@$(TESTS)/run.js unit

lint: $(COMPILED) ## Check format, lint and types
	@echo '  LINT    format, rules, shell'
	@node_modules/.bin/prettier --check --log-level warn .
	@node_modules/.bin/eslint .
	@shellcheck .ci/run

bench: $(COMPILED) ## Measure builds against plain tools, as ratios
	@$(TESTS)/bench.js

##@ Other
.PHONY: help list-distros new-distro install-scripts clean distclean
help: $(COMPILED) ## Show targets and settings
	@$(RUN)/scripts/help.js

list-distros: $(COMPILED) ## Show distros, releases, init modes and architectures
	@$(ROOTFS_OF_DISTRO) -l

new-distro: $(COMPILED) ## Begin a new distro, NAME, and tell what to fill in
	@$(RUN)/scripts/new-distro.js

install-scripts: $(COMPILED) ## Install what builds guests to DESTDIR/INSTALL_DIR
	@$(RUN)/scripts/install-scripts.js

clean: $(COMPILED) ## Remove what was built for DISTRO; caches stay
	@$(RUN)/scripts/clean.js

distclean: ## Remove everything made, caches and compiled steps too
	@if [ -e build/.compiled ]; then $(RUN)/scripts/clean.js -a; fi
	@rm -rf build node_modules .tap

print-%: ## Show the value of a make variable
	@$(info $($*)):

# Sources are never made, whatever pattern above their names may match.
$(SOURCES): ;

# Two makes at once do these one after the other, and the second finds it done; a crash gives the lock back. What is
# edited meanwhile is newer than what was made, which has the time at which that began.
AGE = stat -c %y $@ 2>&1 || :
ONCE = before=$$($(AGE)); $(AS_CALLER) mkdir -p build; $(AS_CALLER) touch build/.lock; exec 9<>build/.lock; \
  ! command -v flock >/dev/null || flock 9; \
  if [[ $$before != "$$($(AGE))" ]]; then \
    new=; for file in $?; do [[ ! $$file -nt $@ ]] || new=yes; done; [[ -n $$new ]] || exit 0; fi; \
  $(AS_CALLER) touch build/.begun

$(INSTALLED): package.json package-lock.json
	@$(ONCE); echo '  NPM     packages of package-lock.json'; \
	$(AS_CALLER) npm ci --ignore-scripts --loglevel=error >/dev/null; \
	$(AS_CALLER) touch -r build/.begun $@

# A compiled file that has no source any more would count as code of every build, and be run as a test. Files of
# earlier bundles, whose names are their digests, stay for a day: what runs now may load them yet.
$(COMPILED): $(INSTALLED) tsconfig.json $(SOURCES)
	@$(ONCE); echo '  TSC     steps'; \
	$(AS_CALLER) node_modules/.bin/tsc --project .; \
	find build -path build/bundle -prune -o -name '*.js' -type f -print | while read -r file; do \
	  source=$${file#build/}; [[ -e $${source%.js}.ts ]] || rm -f "$$file"; done; \
	$(AS_CALLER) node_modules/.bin/esbuild $(BUNDLED:%=build/%.js) --bundle --splitting --format=esm \
	  --platform=node --target=node20 --outbase=build --outdir=build/bundle --external:cpio-stream \
	  --banner:js='import{createRequire as requireOfBundle}from"node:module";const require=requireOfBundle(import.meta.url);' \
	  --metafile=build/bundle.json --log-level=warning; \
	find build/bundle -name '*.js' -mmin +1440 -delete; \
	$(AS_CALLER) touch -r build/.begun $@
