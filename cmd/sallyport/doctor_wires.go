package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/redirect"
)

// wires tells by which interfaces frames leave the network namespaces of
// covered processes unseen. The host's own is told with CAP_NET_RAW.
func (l *findings) wires(h redirect.Host, cfg *config.Config, covered []process) {
	guarded := map[int]bool{}
	s, err := redirect.GetStatus(cfg.Interception.Pins)
	if err != nil {
		return // the guard's own check says so
	}
	for _, w := range s.Wires {
		guarded[w.Index] = w.Attached
	}
	own, _ := os.Readlink(procFile(h, "self", "ns", "net"))
	seen, wires := map[string]bool{own: true}, 0
	var open, failed []string
	for i := range covered {
		p := &covered[i]
		name := procFile(h, strconv.Itoa(p.pid), "ns", "net")
		ns, err := os.Readlink(name)
		if err != nil || seen[ns] {
			continue // it has ended, or is known
		}
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		seen[ns] = true
		exits, err := redirect.Exits(f)
		f.Close()
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", p, err))
		}
		for _, e := range exits {
			if e.Wire != 0 && guarded[e.Wire] {
				wires++
			} else {
				open = append(open, fmt.Sprintf("%s (%s) of process %s", render.Line(e.Name), render.Line(e.Kind), p))
			}
		}
	}
	if failed != nil {
		l.note("wires", "not known: "+strings.Join(failed, "; "), "run it as root, on the host")
	}
	const remedy = "only ends of veth pairs that lead to the host's namespace can be, while sallyport runs: have the container engine make such, or keep CAP_NET_RAW from what runs there (docs/operations.md, AF_PACKET)"
	if open != nil {
		l.note("wires", "frames that packet sockets send are not looked at, at these interfaces of covered network namespaces: "+fewOf(open), remedy)
	} else if failed == nil {
		l.check("wires", fmt.Sprintf("%d ends of veth pairs are guarded, and there are no other ways out of covered network namespaces", wires), nil, "")
	}
}
