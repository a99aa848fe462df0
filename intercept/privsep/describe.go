package privsep

import (
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept/workload"
)

const (
	maxDescribed = 4096        // cgroups whose description is kept
	describedFor = time.Minute // a container can be renamed
)

// descriptions keeps what cgroups were found to be, by their id, which no
// other cgroup of this boot has. What could not be described is not kept.
type descriptions struct {
	host workload.Host

	mu   sync.Mutex
	kept map[uint64]described
}

type described struct {
	path  string
	until time.Time
	what  workload.Description
}

func (d *descriptions) of(id uint64, path string) (workload.Description, error) {
	now := time.Now()
	d.mu.Lock()
	k, ok := d.kept[id]
	d.mu.Unlock()
	if ok && k.path == path && now.Before(k.until) {
		return k.what, nil
	}
	what, err := d.host.Describe(path)
	if err != nil {
		return what, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept == nil || len(d.kept) >= maxDescribed {
		d.kept = map[uint64]described{}
	}
	d.kept[id] = described{path, now.Add(describedFor), what}
	return what, nil
}

// ReadStateBelow has the state of container runtimes read below root instead
// of /. Call it before anybody is proved.
func (p *Prover) ReadStateBelow(root string) { p.described.host.Root = root }
