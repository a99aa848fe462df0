package sink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// resentEnd follows the name of a file of refused events: up to where they were sent
// again, in bytes.
const resentEnd = ".resent"

// Resent is what became of refused events.
type Resent struct {
	Sent    int // their target has them, or has refused them again
	Refused int // of Sent: refused again, and written down in <name>.resend.rejected.jsonl
	Passed  int // what is no event that its host may publish: it is never sent
}

// Resend hands on again what a sink, and its backfills, wrote down because the target
// did not take it, with the ids that they have. It remembers how far it came, so that
// the next one goes on behind it. The sink may run meanwhile; a line that it is
// writing is for the next time.
func Resend(ctx context.Context, k *Config, t Target, state string, log *slog.Logger) (r Resent, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	rej, err := openRejected(state, k.Name+".resend")
	if err != nil {
		return r, err
	}
	defer rej.close()
	d := &delivery{target: t, rejected: rej, log: log.With("sink", k.Name), hooks: Hooks{Refused: func(n int) { r.Refused += n }}}
	for _, name := range []string{k.Name, k.Name + ".backfill"} {
		if err := resend(ctx, k, d, filepath.Join(state, name+rejectedEnd), &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func resend(ctx context.Context, k *Config, d *delivery, file string, r *Resent) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sink %s: refused events: %w", k.Name, err)
	}
	defer f.Close()
	at, err := resentUpTo(file)
	if err == nil {
		_, err = f.Seek(at, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("sink %s: %w", k.Name, err)
	}
	var batch []Event
	size, passed := 0, 0
	flush := func() error {
		if err := d.deliver(ctx, batch); err != nil {
			return err
		}
		if err := noteResent(file, at); err != nil {
			return fmt.Errorf("sink %s: %w", k.Name, err)
		}
		r.Sent, r.Passed = r.Sent+len(batch), r.Passed+passed
		batch, size, passed = nil, 0, 0
		return nil
	}
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return flush() // what has no end yet is for the next time
		}
		if err != nil {
			return fmt.Errorf("sink %s: refused events: %w", k.Name, err)
		}
		at += int64(len(line))
		if e, ok := refusedEvent(line); ok {
			batch, size = append(batch, e), size+len(e.JSON)
		} else {
			passed++
		}
		if len(batch) >= k.Batch || size >= k.BatchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// refusedEvent reads a line of the file, held to the same as when it came.
func refusedEvent(line []byte) (e Event, ok bool) {
	var x struct {
		UID   string          `json:"uid"`
		Host  string          `json:"host"`
		Event json.RawMessage `json:"event"`
	}
	if json.Unmarshal(line, &x) != nil || x.UID == "" || len(x.Event) == 0 || bytes.ContainsFunc(x.Event, func(c rune) bool { return c < ' ' }) {
		return e, false
	}
	e = Event{UID: x.UID, Host: x.Host, JSON: x.Event}
	var err error
	if e.View, err = ocsf.Decode(e.JSON); err != nil || heldTo(x.Host, e.JSON) != nil {
		return e, false
	}
	for k := events.Kind(1); k.String() != ""; k++ {
		if k.String() == e.View.Kind {
			e.Kind = k
		}
	}
	return e, e.Kind != 0 && strings.HasSuffix(x.UID, "-"+strconv.FormatUint(e.View.Seq, 10))
}

func resentUpTo(file string) (int64, error) {
	b, err := os.ReadFile(file + resentEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if fi, err2 := os.Stat(file); err2 != nil || err != nil || at < 0 || at > fi.Size() {
		return 0, fmt.Errorf("%s%s is not of this file: remove it to send all of it again", file, resentEnd)
	}
	return at, nil
}

func noteResent(file string, at int64) error {
	name := file + resentEnd
	f, err := os.CreateTemp(filepath.Dir(name), ".resent-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, at)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
