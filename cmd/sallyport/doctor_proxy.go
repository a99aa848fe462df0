package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// proxies notes processes that serve a policy at a port: on a host that is to be
// guarded somebody may take them for more.
func (l *findings) proxies(proc string) {
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "cmdline"))
	var found []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		if args := bytes.Split(b, []byte{0}); string(filepath.Base(string(args[0]))) == "sallyport" && slices.ContainsFunc(args[1:], func(a []byte) bool { return string(a) == "proxy" }) {
			found = append(found, filepath.Base(filepath.Dir(f)))
		}
	}
	if len(found) > 0 {
		l.note("proxy", fmt.Sprintf("process %s is sallyport proxy, which enforces no placement: whoever can reach the server goes round it", strings.Join(found, ", ")),
			"use it for development and tests only (docs/development.md)")
	}
}
