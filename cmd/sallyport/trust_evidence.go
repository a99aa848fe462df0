package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// handshake is what became of one that an agent began, or did not.
type handshake struct {
	at       time.Time
	process  events.Process
	resource string
	version  string // of TLS, "" for one that failed
	failed   string // why
	clear    bool   // it did not ask for TLS, though it was offered
	shown    bool   // it showed a certificate of its own
	passed   bool   // its TLS was with the server itself
}

func (h *handshake) String() string {
	when := h.at.Local().Format(time.DateTime)
	switch {
	case h.passed:
		return fmt.Sprintf("at %s its TLS was with the server itself, undecoded", when)
	case h.failed != "" && h.shown:
		return fmt.Sprintf("at %s it showed a certificate of its own, and was refused", when)
	case h.failed != "":
		return fmt.Sprintf("at %s it ended the handshake: %s", when, h.failed)
	case h.clear:
		return fmt.Sprintf("at %s it came in clear, though TLS was offered", when)
	}
	return fmt.Sprintf("at %s it came in by TLS %s", when, h.version)
}

// verdict is what a handshake proves, given what was inferred. One that ends it
// though the authority stands among its roots wants another certificate.
func (h *handshake) verdict(inferred string) string {
	switch {
	case h.clear, h.passed:
		return inferred
	case h.failed != "" && h.shown:
		return clientCert
	case h.failed == "":
		return trusts
	case inferred == pins, inferred == trusts && !strings.Contains(h.failed, "unknown certificate authority"):
		return pins
	case inferred == clientCert:
		return clientCert
	}
	return refuses
}

// handshakes are the latest of each process, and of each program of a user in a
// cgroup.
type handshakes struct {
	process map[processKey]handshake
	program map[programKey]handshake
}

type processKey struct {
	pid   int
	start uint64 // in ticks since boot
}

type programKey struct {
	exe    string
	uid    uint32
	cgroup string
}

// readHandshakes reads a host's journal, where there is one, for what tells of
// some processes.
func readHandshakes(cfg *config.Config, since time.Time, ps []process) (*handshakes, error) {
	all := &handshakes{map[processKey]handshake{}, map[programKey]handshake{}}
	pids, cgroups := map[int]bool{}, map[string]bool{}
	for _, p := range ps {
		pids[p.pid], cgroups[p.cgroup] = true, true
	}
	err := journal.Scan(filepath.Join(cfg.State, "journal"), since, func(r *events.Record) bool {
		if r.Kind != events.Login && r.Kind != events.SessionOpen {
			return true
		}
		v, err := ocsf.Decode(r.Payload)
		if err != nil || v.Time.Before(since) || v.Process.PID == 0 {
			return true
		}
		h := handshake{
			at: v.Time, process: v.Process, resource: v.Resource, version: v.ClientTLS.Version, clear: v.ClientClear,
			shown: v.ClientCertificate.SHA256 != "", passed: v.Undecoded && v.Kind == events.SessionOpen.String(),
		}
		if v.Verdict == events.Blocked.String() && slices.Contains(v.Rules, "tls") && !v.ClientClear {
			h.failed = v.Reason
		}
		if h.version == "" && !h.clear && !h.passed && h.failed == "" {
			return true
		}
		if p := &h.process; pids[int(p.PID)] {
			all.process[processKey{int(p.PID), p.Start / tick}] = h
		}
		if p := &h.process; cgroups[p.Cgroup] && p.Exe != "" {
			all.program[programKey{p.Exe, p.UID, p.Cgroup}] = h
		}
		return true
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}

// tick is the unit in which /proc tells when a process started (proc(5), with the
// USER_HZ of all architectures that Go runs on here).
const tick = uint64(10 * time.Millisecond)

// of returns the latest handshake of a process, else of the same program, user
// and cgroup; nil where none was recorded.
func (a *handshakes) of(p *process, start uint64, exe string) *handshake {
	if a == nil {
		return nil
	}
	if h, ok := a.process[processKey{p.pid, start}]; ok {
		return &h
	}
	if h, ok := a.program[programKey{exe, p.ids[0], p.cgroup}]; ok {
		return &h
	}
	return nil
}
