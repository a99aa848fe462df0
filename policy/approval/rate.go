package approval

import (
	"fmt"
	"time"

	"sallyport.dev/sallyport/policy"
)

// How fast one workload may make requests, where Options do not say it.
const (
	Burst = 30              // at once
	Every = 2 * time.Second // one more
)

// pace is how fast each workload may make requests: those who are asked are people.
type pace struct {
	burst int
	every time.Duration
	by    map[string]*bucket
}

// bucket is how many a workload may make at a time.
type bucket struct {
	left float64
	at   time.Duration
}

func newPace(burst int, every time.Duration) pace {
	if burst <= 0 {
		burst = Burst
	}
	if every <= 0 {
		every = Every
	}
	return pace{burst: burst, every: every, by: map[string]*bucket{}}
}

// take lets a workload make one more request, at a time since the start: a clock that
// is set gives nobody more.
func (p *pace) take(workload string, now time.Duration) error {
	k := p.by[workload]
	if k == nil {
		k = &bucket{left: float64(p.burst), at: now}
		p.by[workload] = k
	}
	k.left, k.at = p.full(k, now), now
	if k.left < 1 {
		wait := time.Duration((1-k.left)*float64(p.every)).Truncate(time.Second) + time.Second
		return &policy.Unasked{
			Why:    fmt.Sprintf("workload %q asks for too many approvals: %d at once, and then one each %s", workload, p.burst, p.every),
			Remedy: fmt.Sprintf("wait %s and send it again; have what waits already decided, or withdraw it", wait),
		}
	}
	k.left--
	return nil
}

func (p *pace) full(k *bucket, now time.Duration) float64 {
	return min(k.left+float64(now-k.at)/float64(p.every), float64(p.burst))
}

// forget drops those that may make as many as one that has made none.
func (p *pace) forget(now time.Duration) {
	for w, k := range p.by {
		if p.full(k, now) >= float64(p.burst) {
			delete(p.by, w)
		}
	}
}
