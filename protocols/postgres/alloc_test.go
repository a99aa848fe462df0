package postgres_test

import (
	"context"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/wire"
)

// nowhere is a journal that keeps nothing and costs nothing.
type nowhere struct{ seq uint64 }

func (n *nowhere) Append(*events.Event) (events.Ticket, error) {
	n.seq++
	return events.NewTicket(n, n.seq), nil
}

func (n *nowhere) Record(*events.Chunk) (events.Ticket, error) { return events.NewTicket(n, 1), nil }
func (n *nowhere) WaitWritten(uint64) error                    { return nil }
func (n *nowhere) WaitDurable(context.Context, uint64) error   { return nil }
func (n *nowhere) Durable() uint64                             { return 1 << 62 }

// TestAllocations is the ceiling of what a statement costs once its shape is
// known, whatever its literals: proxy, policy and client together.
func TestAllocations(t *testing.T) {
	wire.Poison(false)
	defer wire.Poison(true)
	for _, c := range []struct {
		name, policy string
		ceiling      float64
		send         []byte
	}{
		{"relayed, simple", allowAll, 0, enc(q("SELECT name FROM public.products WHERE id = 7"))},
		{"analysed, simple", maskPolicy, 0, enc(q("SELECT name FROM public.products WHERE id = 7"))},
		{"masked, simple", maskPolicy, 0, enc(q("SELECT name, ssn FROM clinic.patients WHERE id = 2"))},
		{"asked of others, simple", strings.ReplaceAll(approvePolicy, "WAIT", "wait: retry"), 0, enc(q("SELECT name FROM public.products WHERE id = 7"))},
		{"masked, extended", maskPolicy, 3, enc(&pgproto3.Parse{Query: "SELECT name, ssn FROM clinic.patients WHERE id = $1"},
			&pgproto3.Bind{Parameters: [][]byte{[]byte("2")}}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})},
		{"masked, prepared", maskPolicy, 0, enc(&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("2")}}, &pgproto3.Execute{}, &pgproto3.Sync{})},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startOn(t, c.policy, &nowhere{})
			r := p.raw()
			r.send(enc(&pgproto3.Parse{Name: "s", Query: "SELECT name, ssn FROM clinic.patients WHERE id = $1"}, &pgproto3.Sync{}))
			r.until('Z', 1)
			buf := make([]byte, 64<<10)
			once := func() {
				r.send(c.send)
				for n := 0; ; {
					k, err := r.Read(buf[n:])
					if err != nil {
						if err == io.EOF {
							t.Fatal("the session ended")
						}
						t.Fatal(err)
					}
					if n += k; n > 6 && string(buf[n-6:n-1]) == "Z\x00\x00\x00\x05" {
						return
					}
				}
			}
			for range 200 {
				once()
			}
			const runs = 2000
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range runs {
				once()
			}
			runtime.ReadMemStats(&after)
			if got := float64(after.Mallocs-before.Mallocs) / runs; got > c.ceiling+slack {
				t.Errorf("%.1f allocations for a statement, the ceiling is %.0f", got, c.ceiling)
			} else {
				t.Logf("%.2f allocations for a statement", got)
			}
		})
	}
}
