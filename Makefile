# Baton. `make demo` and `make test` are the two commands to know; both install what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: build test demo bench-takeover dependencies check-root install uninstall clean lint-man

SWIFT ?= swift
JOBS ?= 2
BUILD := $(SWIFT) build -c release -j $(JOBS)
PROGRAMS := baton-director baton-agent batonctl baton-lab
BIN := .build/release
PREFIX ?= /usr/local

# A line for each tenth of a build's steps, its errors, and its end. (The plug-in is built first, in a few steps of its own.)
PROGRESS := { shown=0; last=; while IFS= read -r line; do last=$$line; \
	if [[ $$line =~ ([0-9]+)/([0-9]+)\] ]] && [ $${BASH_REMATCH[2]} -ge 30 ]; then \
		tenth=$$((10 * $${BASH_REMATCH[1]} / $${BASH_REMATCH[2]})); \
		if [ $$tenth -gt $$shown ]; then shown=$$tenth; echo "  $${BASH_REMATCH[1]} of $${BASH_REMATCH[2]} steps"; fi; \
	elif [[ $$line == *error:* ]]; then echo "$$line"; fi; done; echo "$$last"; }

# Everything by its Debian name (nginx is not started: policy-rc.d says no); `dependencies` asks dpkg first, so that a machine that has them needs no network.
PACKAGES := libbpf-dev libnftnl-dev libmnl-dev libpcap-dev libelf-dev zlib1g-dev pkg-config \
	nginx-light libnginx-mod-http-echo libnginx-mod-stream apache2-bin lighttpd caddy haproxy wrk dnsmasq-base curl iproute2 nftables ethtool openssl procps util-linux mandoc

dependencies:
	@missing=(); for package in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing+=($$package); \
	done; \
	if [ $${#missing[@]} -gt 0 ]; then \
		[ "$$(id -u)" = 0 ] || { echo "error: missing packages: $${missing[*]}; run: sudo make dependencies" >&2; exit 77; }; \
		echo "Installing $${missing[*]}"; \
		export DEBIAN_FRONTEND=noninteractive; \
		policy=; [ -e /usr/sbin/policy-rc.d ] || policy=/usr/sbin/policy-rc.d; \
		[ -z "$$policy" ] || { printf '#!/bin/sh\nexit 101\n' > $$policy && chmod 755 $$policy && trap "rm -f $$policy" EXIT; }; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $${missing[*]} >/dev/null; \
	fi

build: dependencies
	$(BUILD)

check-root:
	@[ "$$(id -u)" = 0 ] || { echo "error: namespaces and eBPF need root; run as root, e.g. with sudo" >&2; exit 77; }

test: check-root dependencies lint-man
	$(BUILD) --build-tests
	BATON_PROGRAMS=$(CURDIR)/$(BIN) $(SWIFT) test -c release --skip-build --no-parallel

demo: check-root dependencies
	@echo "Building (some minutes the first time) ..."
	@$(BUILD) 2>&1 | $(PROGRESS)
	@exec $(BIN)/baton-lab demo

# JSON=1 prints the figures as JSON and nothing else.
bench-takeover: check-root dependencies
	@$(BUILD) >&2
	@exec $(BIN)/baton-lab bench-takeover $(if $(JSON),--json)

lint-man: dependencies
	@mandoc -Tlint -Wwarning man/*.[58]

install: build
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 $(addprefix $(BIN)/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/sbin
	install -m 644 man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/sbin/,$(PROGRAMS))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man5/,$(notdir $(wildcard man/*.5)))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard man/*.8)))

clean:
	rm -rf .build
