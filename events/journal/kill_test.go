package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

const childEnv = "SALLYPORT_JOURNAL_CHILD"

// TestMainChild is the process that TestKill kills: it prints what was
// promised, line by line.
func TestMainChild(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		return // only the child of TestKill has work here
	}
	j, err := journal.Open(dir, options(journal.Options{SegmentBytes: 32 << 10, CheckpointEvery: 5 * time.Millisecond, Together: -1}))
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	var out sync.Mutex
	for g := range 4 {
		go func() {
			s := session(fmt.Sprintf("%d-%d", os.Getpid(), g))
			if _, err := j.Append(event(events.SessionOpen, s, 0)); err != nil {
				fmt.Println("error:", err)
			}
			for n := uint64(1); ; n++ {
				text := fmt.Sprintf("statement %d-%d-%d", os.Getpid(), g, n)
				st := statement(s, n, text)
				st.Later = n%3 != 0
				tk, err := j.Append(st)
				early := n%4 == 1 // answered before anybody waits
				chunk := &events.Chunk{Session: s, Number: n, Kind: events.ChunkResult, Data: []byte(text)}
				switch {
				case err != nil:
				case early:
					_, err = j.Record(chunk)
				default:
					err = record(j, chunk)
				}
				if err == nil && n%8 == 0 {
					out.Lock()
					fmt.Println("written", text)
					out.Unlock()
				}
				if err == nil && early {
					_, err = j.Append(event(events.Response, s, n))
				}
				if err == nil {
					err = tk.Wait(context.Background())
				}
				if err == nil {
					out.Lock()
					fmt.Println(text)
					out.Unlock()
				}
				if err == nil && !early {
					_, err = j.Append(event(events.Response, s, n))
				}
				if err != nil {
					fmt.Println("error:", err)
				}
			}
		}()
	}
	select {}
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	promised, written := map[string]int{}, map[string]int{}
	for range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMainChild$")
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(pipe)
		more := sc.Scan() // its first word, however long it takes to get there
		timer := time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() { cmd.Process.Kill() })
		for ; more; more = sc.Scan() {
			line := sc.Text()
			if w, ok := strings.CutPrefix(line, "written "); ok {
				written[w] = 0
			} else if strings.HasPrefix(line, "statement ") {
				promised[line] = 0
			} else {
				t.Errorf("child: %s", line)
			}
		}
		cmd.Wait()
		timer.Stop()
	}
	if len(promised) < 20 {
		t.Fatalf("only %d promises were made", len(promised))
	}
	j := open(t, dir, journal.Options{})
	ends, together := map[string]int{}, 0
	for _, r := range all(t, j, 1) {
		if r.Kind == 0 {
			cs, err := events.ParseChunks(nil, r.Payload)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cs {
				if _, ok := written[string(c.Data)]; ok {
					written[string(c.Data)]++
				}
			}
			continue
		}
		l := decode(t, r)
		switch r.Kind {
		case events.Statement:
			if _, ok := promised[l.Text]; ok {
				promised[l.Text]++
			}
			if l.Status != "" {
				together++
				break
			}
			ends[fmt.Sprint(l.Session, l.Number)]++
		case events.Response:
			ends[fmt.Sprint(l.Session, l.Number)]--
		case events.SessionOpen:
			ends[l.Session]++
		case events.SessionClose:
			ends[l.Session]--
		}
	}
	if together == 0 {
		t.Error("no statement shares a record with its outcome")
	}
	for _, m := range []map[string]int{promised, written} {
		for p, n := range m {
			if n != 1 {
				t.Errorf("%q stands %d times", p, n)
			}
		}
	}
	for k, n := range ends {
		if n != 0 {
			t.Errorf("%q lacks %d ends", k, n)
		}
	}
	rep, err := journal.Verify(dir, journal.Expect{HostKey: j.HostKey(), Message: message})
	if err != nil || rep.Fault != nil || rep.Last != j.Last() || rep.Checkpoints == 0 {
		t.Fatalf("%+v %v", rep, err)
	}
}
