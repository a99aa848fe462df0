package resolver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// hosts is the content of hosts(5).
type hosts struct {
	mu      sync.Mutex
	stamp   string // of what was read
	names   map[string][]netip.Addr
	changed chan struct{} // closed when the content changes
}

// read reads the file again if it is another. One that can't be read is empty.
func (h *hosts) read(path string) {
	stamp := stampOf(path)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed != nil && stamp == h.stamp {
		return
	}
	h.names = map[string][]netip.Addr{}
	if f, err := os.Open(path); err == nil {
		b, _ := io.ReadAll(io.LimitReader(f, maxHosts))
		f.Close()
		h.names = parseHosts(b)
	}
	h.stamp = stamp
	if h.changed != nil {
		close(h.changed)
	}
	h.changed = make(chan struct{})
}

// stampOf changes when a file does.
func stampOf(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err.Error()
	}
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim)
}

func parseHosts(b []byte) map[string][]netip.Addr {
	all := map[string][]netip.Addr{}
	for line := range bytes.Lines(b) {
		line, _, _ = bytes.Cut(line, []byte{'#'})
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			all[name] = append(all[name], addr.WithZone("").Unmap())
		}
	}
	return all
}

func (h *hosts) of(name string) []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names[name]
}

// changes returns what is closed when the file changes.
func (h *hosts) changes() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

func (r *run) watchHosts(ctx context.Context) {
	t := time.NewTicker(hostsGap)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.hosts.read(r.o.Hosts)
		case <-ctx.Done():
			return
		}
	}
}
