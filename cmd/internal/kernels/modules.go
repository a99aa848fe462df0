package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// wanted are the modules that the doors knock with, and the sweep's socket
// listings. A kernel may have one built in, or not at all.
var wanted = []string{
	"tcp_diag", "udp_diag", "mptcp_diag", "unix_diag", "veth", "dummy", "tun", "sctp", "sctp_diag", "dccp_ipv4", "vsock_loopback",
	"nf_tables", "nft_chain_nat", "nft_nat", "nft_redir", "nft_compat", "ip_tables", "iptable_nat", "xt_nat", "xt_REDIRECT", "xt_tcpudp", "xt_mark",
	"sch_ingress", "cls_bpf",
}

// A module is a kernel module, ready for init_module(2).
type module struct {
	name string
	elf  []byte
}

// loadModules finds the wanted ones below root, after those that they need.
func loadModules(ctx context.Context, root string) (out []module, err error) {
	files := map[string]string{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok && err == nil && d.Type().IsRegular() {
			files[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(files) < 100 {
		return nil, fmt.Errorf("%s: %d kernel modules found", root, len(files))
	}
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] || files[name] == "" {
			return nil
		}
		seen[name] = true
		b, err := readModule(ctx, files[name])
		if err != nil {
			return err
		}
		needs, err := moduleNeeds(b)
		if err != nil {
			return fmt.Errorf("%s: %w", files[name], err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		out = append(out, module{name, b})
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// moduleName is how the kernel spells it: files may have a dash.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

func readModule(ctx context.Context, path string) ([]byte, error) {
	if filepath.Ext(path) != ".xz" {
		return os.ReadFile(path)
	}
	var text string
	err := output(exec.CommandContext(ctx, "xz", "-dc", path), &text)
	return []byte(text), err
}

// moduleNeeds reads "depends=a,b" and "softdep=pre: c" from the section that
// modinfo(8) prints.
func moduleNeeds(b []byte) (names []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := s.Data()
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok {
			names = append(names, strings.FieldsFunc(list, func(r rune) bool { return r == ',' })...)
		}
		if list, ok := strings.CutPrefix(field, "softdep=pre: "); ok {
			list, _, _ = strings.Cut(list, " post:")
			names = append(names, strings.Fields(list)...)
		}
	}
	return names, err
}
