package redirect

import (
	"fmt"

	"github.com/cilium/ebpf"

	"sallyport.dev/sallyport/bpf"
)

// Counters are the programs' own, since the guard came up.
type Counters struct {
	Turned     uint64 `json:"turned"`     // connections turned into the passage
	Handed     uint64 `json:"handed"`     // records handed to an accepted connection
	Refused    uint64 `json:"refused"`    // system calls refused
	Dropped    uint64 `json:"dropped"`    // packets dropped by the backstop
	Suppressed uint64 `json:"suppressed"` // reports not sent because there were too many
	Lost       uint64 `json:"lost"`       // reports not sent because nobody read them
}

func readCounters(m *ebpf.Map) (Counters, error) {
	var v [bpf.GuardCounterCOUNTERS]uint64
	for i := range v {
		if err := m.Lookup(uint32(i), &v[i]); err != nil {
			return Counters{}, fmt.Errorf("read counters: %w", err)
		}
	}
	return Counters{
		Turned: v[bpf.GuardCounterCOUNT_TURNED], Handed: v[bpf.GuardCounterCOUNT_HANDED],
		Refused: v[bpf.GuardCounterCOUNT_REFUSED], Dropped: v[bpf.GuardCounterCOUNT_DROPPED],
		Suppressed: v[bpf.GuardCounterCOUNT_SUPPRESSED], Lost: v[bpf.GuardCounterCOUNT_LOST],
	}, nil
}

// CounterReader reads the counters on an inherited descriptor. It needs no
// capability, but the bpf(2) system call.
type CounterReader struct{ m *ebpf.Map }

// NewCounterReader takes over fd, a duplicate of Guard.CountersFD.
func NewCounterReader(fd int) (*CounterReader, error) {
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	return &CounterReader{m}, nil
}

// Read returns the counters as they are now. Many goroutines may call it.
func (c *CounterReader) Read() (Counters, error) { return readCounters(c.m) }

// Close lets go of the descriptor.
func (c *CounterReader) Close() error { return c.m.Close() }
