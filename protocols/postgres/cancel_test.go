package postgres_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

func cancelRequest(c net.Conn, key []byte) {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(key)))
	_, _ = c.Write(append(binary.BigEndian.AppendUint32(b, 80877102), key...))
	_, _ = io.Copy(io.Discard, c)
	c.Close()
}

// A cancel request works for sessions of the same identity. The server gets no
// other.
func TestCancel(t *testing.T) {
	who := []string{"a", "a", "b", "a"} // by connection
	p := open(t, maskPolicy, protocoltest.Options{Identity: func(n int, id *intercept.Identity) {
		id.Workload = who[min(n-1, len(who)-1)]
	}})
	r := p.raw()
	if len(r.key) != 8 {
		t.Fatalf("%x", r.key)
	}
	r.send(enc(q("SELECT pg_sleep(2), 'slept'")))
	time.Sleep(500 * time.Millisecond)
	cancelRequest(p.Dial(), []byte{1, 2, 3, 4, 5, 6, 7, 8}) // of nobody
	cancelRequest(p.Dial(), r.key)                          // b's
	if out := r.until('Z', 1); !strings.Contains(out, "slept") {
		t.Fatal("somebody else's request was heard: ", out)
	}
	for range 2 {
		r.send(enc(q("SELECT pg_sleep(60)")))
		time.Sleep(500 * time.Millisecond)
		cancelRequest(p.Dial(), r.key)
		if out := r.until('Z', 1); !strings.Contains(out, "C57014") || !strings.HasSuffix(out, "Z I\n") {
			t.Fatal(out)
		}
	}
	// In the middle of COPY and of a pipeline.
	r.send(enc(q("COPY w FROM STDIN"), data("cancelled\n")))
	time.Sleep(500 * time.Millisecond)
	cancelRequest(p.Dial(), r.key)
	time.Sleep(500 * time.Millisecond)
	r.send(enc(data("x\n"), copyDone))
	if out := r.until('Z', 1); !strings.Contains(out, "C57014") {
		t.Fatal(out)
	}
	r.send(enc(append(extended("SELECT pg_sleep(60)"), extended("SELECT 'behind'")...)...))
	time.Sleep(500 * time.Millisecond)
	cancelRequest(p.Dial(), r.key)
	if out := r.until('Z', 2); !strings.Contains(out, "C57014") || !strings.Contains(out, "behind") {
		t.Fatal(out)
	}
	// A key of a session that has ended is nobody's.
	key := r.key
	r.Close()
	for range 11 {
		_ = p.End()
		if len(p.Ends) == 0 {
			break
		}
	}
	cancelRequest(p.Dial(), key)
	if out := p.raw().ask(1, q("SELECT 'well'")); !strings.Contains(out, "well") {
		t.Error(out)
	}
}

// One identity is more than its workload: issuer, subject and the whole chain
// of actors.
func TestCancelOfSomebodyAlike(t *testing.T) {
	var n atomic.Int32
	others := []func(*intercept.Identity){
		func(id *intercept.Identity) { id.Issuer = "another" }, func(id *intercept.Identity) { id.Subject = "another" },
		func(id *intercept.Identity) { id.Actors = []string{"agent"} }, func(id *intercept.Identity) { id.Workload = "another" },
	}
	p := open(t, maskPolicy, protocoltest.Options{Identity: func(c int, id *intercept.Identity) {
		id.Issuer = "issuer"
		if c > 1 {
			others[n.Load()](id)
		}
	}})
	r := p.raw()
	for i := range others {
		n.Store(int32(i))
		r.send(enc(q("SELECT pg_sleep(0.5), 'slept'")))
		time.Sleep(50 * time.Millisecond)
		cancelRequest(p.Dial(), r.key)
		if out := r.until('Z', 1); !strings.Contains(out, "slept") {
			t.Errorf("%d: %s", i, out)
		}
	}
}
