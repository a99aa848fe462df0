package e2e

import (
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/stand"
)

// The stories of an ordinary host.
func TestClinic(t *testing.T) {
	clients(t)
	tell(t, "testdata/clinic", &story{Stand: startStand(t, stand.Options{ServerLog: true})})
}

// The stories of a host that guards everybody but named cgroups.
func TestHostMode(t *testing.T) {
	tell(t, "testdata/host", &story{Stand: startStand(t, stand.Options{Mode: "host"})})
}

// The stories of a host whose events go to a NATS of somebody else's.
func TestNATS(t *testing.T) {
	n, err := newNATS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	})
	tell(t, "testdata/nats", &story{Stand: startStand(t, stand.Options{Prepare: n.prepare}), nats: n})
}

// The stories of a journal that is as small as may be, and fills up.
func TestFull(t *testing.T) {
	tell(t, "testdata/full", &story{Stand: startStand(t, stand.Options{Patients: 2000, Configure: func(c *config.Config) {
		c.Evidence.Journal.SegmentBytes, c.Evidence.Journal.MaxBytes = 1<<20, 4<<20
	}})})
}
