package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// clientEnv makes the test's program a client, which an agent can run.
const clientEnv = "SALLYPORT_E2E_CLIENT"

// way is how a statement travels.
type way int

const (
	simple way = iota
	extendedText
	extendedBinary
)

func (w way) String() string { return [...]string{"simple", "text", "binary"}[w] }

// conversation is what a client is to send in one session.
type conversation struct {
	Name       string
	Way        way
	Statements []string
}

// answer is what came back.
type answer struct {
	Received []byte // every byte after the session's start
	Rows     string // rows and tags in simple form
	Refused  string // sallyport's own words, "" when nothing was refused
	Errors   []string
	Failed   string // what ended it early
}

// client holds conversations given as JSON, and prints the answers.
func client(r io.Reader, w io.Writer) int {
	var in []conversation
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out := make([]answer, len(in))
	for i := range in {
		if err := out[i].converse(&in[i]); err != nil {
			out[i].Failed = err.Error()
		}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// tape keeps what a connection receives.
type tape struct {
	net.Conn
	mu sync.Mutex
	b  []byte
}

func (t *tape) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[:n]...)
	return n, err
}

func (t *tape) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.b
	t.b = nil
	return b
}

func (a *answer) converse(in *conversation) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cfg, err := pgconn.ParseConfig("") // from the environment
	if err != nil {
		return err
	}
	var t *tape
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		t = &tape{Conn: c}
		return t, err
	}
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	t.take()
	for _, sql := range in.Statements {
		if in.Way != simple && strings.Contains(sql, "; ") {
			continue // several statements: the simple protocol only
		}
		if err := a.send(ctx, c, in.Way, sql); err != nil {
			a.Received = append(a.Received, t.take()...)
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	a.Received = append(a.Received, t.take()...)
	return nil
}

func (a *answer) send(ctx context.Context, c *pgconn.PgConn, w way, sql string) error {
	var rows strings.Builder
	var err error
	up := strings.ToUpper(strings.TrimSpace(sql))
	switch {
	case strings.HasPrefix(up, "COPY") && strings.Contains(up, "STDOUT"):
		_, err = c.CopyTo(ctx, &rows, sql)
	case w == simple:
		var results []*pgconn.Result
		results, err = c.Exec(ctx, sql).ReadAll()
		for _, r := range results {
			show(&rows, r)
		}
	default:
		format := []int16{0}
		if w == extendedBinary {
			format[0] = 1
		}
		r := c.ExecParams(ctx, sql, nil, nil, nil, format).Read()
		err = r.Err
		show(&rows, r)
	}
	a.Rows += rows.String()
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		a.Errors = append(a.Errors, pe.Code)
		if strings.HasPrefix(pe.Message, "sallyport: refused") {
			a.Refused = pe.Message + " " + pe.Detail
		}
		return nil
	}
	return err
}

func show(w *strings.Builder, r *pgconn.Result) {
	for _, row := range r.Rows {
		for i, v := range row {
			if i > 0 {
				w.WriteByte('\t')
			}
			if v == nil {
				w.WriteString("<null>")
			}
			w.Write(v)
		}
		w.WriteByte('\n')
	}
	fmt.Fprintln(w, r.CommandTag.String())
}
