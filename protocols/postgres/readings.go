package postgres

import (
	"slices"
	"strings"
	"sync"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// readings are the settings by which the texts of values are understood: those that
// the server reports, and what the client set besides when it connected. Where
// statements need approvals none of them is changed later.
type readings struct {
	mu sync.Mutex
	of map[string]string
}

func (r *readings) note(name, value string) {
	if !query.Reads(name) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]string{}
	}
	r.of[strings.ToLower(name)] = value
}

// list returns them as name=value, in order.
func (r *readings) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(r.of))
	for name, value := range r.of {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}
