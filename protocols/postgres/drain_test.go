package postgres_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

const goodbye = `E SFATAL|VFATAL|C57P01|Msallyport: the passage is closing: this connection ends|D{"refused":"closing","remedy":"Connect again."}|HConnect again.||` + "\nEOF\n"

// When the passage closes, what is under way is finished, and the client hears
// why nothing more is.
func TestDrain(t *testing.T) {
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		for _, c := range []struct {
			name string
			say  []message
			then []message // after the passage began to close
			want string    // before the good-bye
		}{
			{"idle", nil, nil, ""},
			{"a statement", []message{q("SELECT pg_sleep(0.3), 'slept'")}, nil, "T D C Z I"},
			{"a pipeline", append(extended("SELECT pg_sleep(0.2)"), extended("SELECT pg_sleep(0.1)")...), nil, "1 2 T D C Z I 1 2 T D C Z I"},
			{"a batch without its Sync", []message{parse("", "SELECT pg_sleep(0.2)"), bind("", ""), execute(""), flush}, nil, "1 2 D C"},
			{"a COPY", []message{q("COPY w FROM STDIN"), data("drained\n")}, []message{data("drained\n"), data(strings.Repeat("drained\n", 20_000)), copyDone}, "G C Z I"},
			{"a COPY in a batch", []message{parse("", "COPY w FROM STDIN"), bind("", ""), execute(""), sync_, data("drained\n")}, []message{data("drained\n"), copyDone}, "1 2 G C"},
			{"a COPY that fails", []message{q("COPY t2 FROM STDIN"), data("1\n")}, []message{data("x\n"), copyDone}, "G E Z I"},
			{"COPYs in one text", []message{q("COPY w FROM STDIN; COPY w FROM STDIN"), data("drained\n")}, []message{copyDone, data("drained\n"), copyDone}, "G C G C Z I"},
		} {
			t.Run(pol.name+"/"+c.name, func(t *testing.T) {
				p := start(t, pol.text)
				r := p.raw()
				if c.say != nil {
					r.send(enc(c.say...))
				}
				begun := ""
				if c.then != nil { // as a client does, which waits until it may send data
					begun = r.until('G', 1)
				} else {
					time.Sleep(100 * time.Millisecond)
				}
				p.Drain()
				time.Sleep(20 * time.Millisecond)
				for _, m := range c.then {
					r.send(enc(m))
					time.Sleep(5 * time.Millisecond)
				}
				out := begun + r.until(0, 1)
				rest, ok := strings.CutSuffix(out, goodbye)
				if !ok || skeleton(rest) != c.want {
					t.Errorf("want %s and a good-bye:\n%s", c.want, clip(out))
				}
				if err := p.End(); err != nil {
					t.Error(err)
				}
				p.settled()
			})
		}
	}
}

// A passage that begins to close between two COPYs of one text waits for the data
// of the second, which the server has not asked for yet.
func TestDrainBetweenCopies(t *testing.T) {
	between, drained := make(chan bool), make(chan bool)
	begin := msg('G', "\x00\x00\x00")
	p := against(t, allowAll, func(s net.Conn) {
		postgrestest.Admit(s)
		hear := func(want byte) { // and what a server ignores, Flush
			for typ := byte(0); typ != want; {
				var err error
				if typ, _, err = postgrestest.Read(s); err != nil {
					return
				}
			}
		}
		hear('Q')
		_, _ = s.Write(begin)
		hear('c')
		close(between)
		<-drained
		_, _ = s.Write(join(msg('C', "COPY 0\x00"), begin))
		hear('c')
		_, _ = s.Write(join(msg('C', "COPY 0\x00"), postgrestest.Ready()))
		_, _ = io.Copy(io.Discard, s)
	})
	r := p.raw()
	r.send(enc(q("COPY w FROM STDIN; COPY w FROM STDIN")))
	out := r.until('G', 1)
	r.send(enc(copyDone))
	<-between
	p.Drain()
	time.Sleep(200 * time.Millisecond) // the client's side looks whether anything is to come
	close(drained)
	out += r.until('G', 1)
	r.send(enc(copyDone))
	if out += r.until(0, 1); skeleton(strings.TrimSuffix(out, goodbye)) != "G C G C Z I" {
		t.Error(out)
	}
}

// A client that has not logged in does not hold the passage open.
func TestDrainBeforeLogin(t *testing.T) {
	p := start(t, allowAll)
	for _, b := range [][]byte{nil, {0}, sslRequest} {
		c := p.Dial()
		_, _ = c.Write(b)
	}
	time.Sleep(50 * time.Millisecond)
	p.Drain()
	began := time.Now()
	for range 3 {
		_ = p.End()
	}
	late := p.Dial()
	if out := (&raw{t: t, Conn: late}).until('Z', 1); out != "EOF\n" {
		t.Error(out)
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("it took %v", d)
	}
}

// A client that ends its side only is answered, like one that says good-bye.
func TestHalfClose(t *testing.T) {
	p := start(t, maskPolicy)
	for _, say := range [][]message{
		{q("SELECT pg_sleep(0.2), 'slept'")},
		append(extended("SELECT pg_sleep(0.2)"), extended("SELECT 'slept'")...),
		{q("SELECT 'slept'"), &pgproto3.Terminate{}, q("SELECT 'never'")},
		{q("COPY (SELECT 'slept' FROM generate_series(1, 100000)) TO STDOUT")},
	} {
		r := p.raw()
		r.send(enc(say...))
		_ = r.Conn.(interface{ CloseWrite() error }).CloseWrite()
		if out := r.until(0, 1); !strings.Contains(out, "slept") || !strings.HasSuffix(out, "Z I\nEOF\n") || strings.Contains(out, "never") {
			t.Errorf("%s", clip(out))
		}
		if err := p.End(); err != nil {
			t.Error(err)
		}
	}
	p.settled()
}
