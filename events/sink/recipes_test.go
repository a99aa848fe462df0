package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

// recipes are the blocks of code below a heading of docs/siem.md.
func recipes(t *testing.T, heading string) []string {
	t.Helper()
	b, err := os.ReadFile("../../docs/siem.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "\n### "+heading+"\n")
	if !found {
		t.Fatalf("docs/siem.md has no %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n### ")
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// natsCLI is the nats command line of tools/natscli.
var natsCLI = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "../..")
	bin := filepath.Join(root, ".cache/natscli")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	// As .ci/deps does it: Go's cache knows what it has built.
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "tool")
	cmd.Dir = filepath.Join(root, "tools/natscli")
	cmd.Stderr = os.Stderr
	return bin, cmd.Run()
})

// shell prepares a recipe's command, in a folder with the SIEM's key. It is killed
// with what it started when the test ends.
func (w *world) shell(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	bin, err := natsCLI()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	seed, err := os.ReadFile(w.server.SeedFile(jetstream.RoleSIEM))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "siem.nk"), seed, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+strings.Replace(script, "nats://127.0.0.1:4222", w.server.URL(), 1))
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir}
	return cmd
}

func TestRecipes(t *testing.T) {
	t.Run("nats", testNATSRecipe)
	t.Run("rsyslog", testRsyslogRecipe)
	t.Run("vector", testVectorRecipe)
	t.Run("fluent bit", testFluentBitRecipe)
}

func testNATSRecipe(t *testing.T) {
	w := newWorld(t, "it")
	all := recipes(t, "The nats command line")
	if len(all) != 3 {
		t.Fatalf("%d commands", len(all))
	}
	// Who subscribes sees what comes from then on.
	sub := w.shell(t, all[0])
	out, err := sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	sub.Stderr = os.Stderr
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	var k taken
	read := make(chan struct{})
	go func() {
		defer close(read)
		takeLines(t, out, &k)
	}()
	t.Cleanup(func() { sub.Process.Kill(); <-read; sub.Wait() })
	added := 0
	for end := time.Now().Add(wait); len(k.list()) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nats sub has told nothing")
		}
		w.add(1)
		added++
	}
	w.add(20)
	added += 20
	k.until(t, uids(added)[added-20:])
	// Who reads through the consumer has all, from the first on, and again.
	from := func() {
		t.Helper()
		var k taken
		for end := time.Now().Add(wait); len(k.list()) < added; {
			if time.Now().After(end) {
				t.Fatalf("nats consumer next has told %d of %d", len(k.list()), added)
			}
			cmd := w.shell(t, all[1])
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// It waits where fewer messages are left than it asks for.
			ended := make(chan struct{})
			go func() {
				for len(k.list()) < added {
					select {
					case <-ended:
						return
					case <-time.After(10 * time.Millisecond):
					}
				}
				cmd.Process.Kill()
			}()
			takeLines(t, out, &k)
			close(ended)
			_ = cmd.Wait()
		}
		if got := k.list(); !slices.Equal(got, uids(added)) {
			t.Errorf("nats consumer next has told %v", got)
		}
	}
	from()
	if out, err := w.shell(t, all[2]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	from()
}

// takeLines takes events, one on a line.
func takeLines(t *testing.T, r io.Reader, k *taken) {
	b := make([]byte, 0, 1<<16)
	buf := make([]byte, 1<<16)
	for {
		n, err := r.Read(buf)
		b = append(b, buf[:n]...)
		for {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				break
			}
			if line := bytes.TrimSpace(b[:i]); len(line) > 0 {
				v, err := ocsf.Decode(line)
				if err != nil {
					t.Errorf("%v: %s", err, line)
				}
				k.add(v.UID)
			}
			b = b[i+1:]
		}
		if err != nil {
			return
		}
	}
}

// rsyslog runs Debian's rsyslogd with a configuration.
func rsyslog(t *testing.T, conf string) (stop func()) {
	t.Helper()
	dir := filepath.Dir(conf)
	log, err := os.OpenFile(filepath.Join(dir, "rsyslogd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("/usr/sbin/rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "rsyslogd.pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (apt-get install rsyslog rsyslog-gnutls)", err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(wait, func() { cmd.Process.Kill() })
		defer late.Stop()
		cmd.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// testRsyslogRecipe: rsyslog takes what the sink sends, also over an end of its own.
func testRsyslogRecipe(t *testing.T) {
	all := recipes(t, "rsyslog")
	if len(all) != 2 {
		t.Fatalf("%d files", len(all))
	}
	dir := t.TempDir()
	cert, ca := certificate(t)
	certificateFiles(t, dir, cert, ca)
	conf, port := filepath.Join(dir, "sallyport.conf"), filepath.Join(dir, "port")
	text := strings.NewReplacer("/etc/sallyport-siem", dir, "/var/log/sallyport", dir,
		`port="6514"`, fmt.Sprintf(`port="0" address="127.0.0.1" listenPortFileName=%q`, port)).Replace(all[0])
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := rsyslog(t, conf)
	at := portOf(t, port)
	s, err := sink.Parse([]byte("state: state\n"+strings.NewReplacer("/etc/sallyport-siem", dir, "siem.example.org:6514", "127.0.0.1:"+at).Replace(all[1])), filepath.Join(dir, "sinks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "it")
	s.Sinks[0].Name = "it"
	w.runSink(t, s, sink.Hooks{})
	w.add(40)
	log := filepath.Join(dir, "cef.log")
	logged(t, log, uids(40))
	stop()
	w.add(20)
	// It comes back where it was.
	text = strings.Replace(text, `port="0"`, fmt.Sprintf("port=%q", at), 1)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rsyslog(t, conf)
	w.add(20)
	logged(t, log, uids(80))
	w.acknowledged(t)
}

// portOf waits until a server has said where it listens.
func portOf(t *testing.T, file string) string {
	t.Helper()
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(file)
		port := strings.TrimSpace(string(b))
		if _, err := strconv.Atoi(port); err == nil {
			return port
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "rsyslogd.log"))
			t.Fatalf("rsyslogd does not listen: %s", log)
		}
	}
}

// logged waits until rsyslog's file has these events.
func logged(t *testing.T, file string, want []string) {
	t.Helper()
	var missing []string
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(file)
		have := map[string]bool{}
		for line := range strings.Lines(string(b)) {
			_, message, _ := strings.Cut(line, "] CEF:0|")
			message, whole := strings.CutSuffix(message, "\n")
			if !whole { // it is being written
				continue
			}
			if head, ext := cef(t, "CEF:0|"+message); head[4] == "block" && ext["suser"] == session.Actor {
				have[ext["externalId"]] = true
			}
		}
		missing = slices.DeleteFunc(slices.Clone(want), func(u string) bool { return have[u] })
		if len(missing) == 0 {
			return
		}
	}
	t.Fatalf("rsyslog has not %v", missing)
}

// archive runs a sink of a file, as Vector and Fluent Bit would read it.
func archive(t *testing.T, path string) [][]byte {
	t.Helper()
	w := newWorld(t, "it")
	w.runSink(t, load(t, fmt.Sprintf("  file: {path: %q}\n", path)), sink.Hooks{})
	w.add(10)
	untilFile(t, path, uids(10))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

func testVectorRecipe(t *testing.T) {
	type source struct {
		Type, URL, Subject string
		Include            []string
		Auth               struct {
			Strategy string
			Nkey     struct{ Nkey, Seed string }
		}
		Framing  struct{ Method string }
		Decoding struct{ Codec string }
	}
	var file, stream struct {
		Sources    map[string]source
		Transforms map[string]struct {
			Inputs []string
			Source string
		}
	}
	all := recipes(t, "Vector")
	if len(all) != 2 || yaml.Unmarshal([]byte(all[0]), &file) != nil || yaml.Unmarshal([]byte(all[1]), &stream) != nil {
		t.Fatalf("%d files, or they are no YAML", len(all))
	}
	tail, script := file.Sources["sallyport"], file.Transforms["event"]
	if tail.Type != "file" || len(tail.Include) != 1 || !slices.Equal(script.Inputs, []string{"sallyport"}) {
		t.Errorf("%+v", file)
	}
	for _, line := range archive(t, filepath.Join(t.TempDir(), filepath.Base(tail.Include[0]))) {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		// "%+" is RFC 3339.
		field := regexp.MustCompile(`parse_timestamp!\(\.(\w+), "%\+"\)`).FindStringSubmatch(script.Source)
		if at, ok := e[field[1]].(string); !ok || !isRFC3339(at) {
			t.Errorf("%s: %v", field[1], e[field[1]])
		}
	}

	in := stream.Sources["sallyport"]
	if in.Type != "nats" || in.Auth.Strategy != "nkey" || in.Framing.Method != "newline_delimited" || in.Decoding.Codec != "json" ||
		in.Auth.Nkey.Nkey != "${SALLYPORT_NKEY}" || in.Auth.Nkey.Seed != "${SALLYPORT_SEED}" {
		t.Fatalf("%+v", in)
	}
	w := newWorld(t, "it")
	public, err := w.shell(t, "nats auth nkey show siem.nk").Output()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := os.ReadFile(w.server.SeedFile(jetstream.RoleSIEM))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(w.server.URL(), nats.Nkey(strings.TrimSpace(string(public)), pair.Sign))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var k taken
	if _, err := nc.Subscribe(in.Subject, func(m *nats.Msg) { takeLines(t, bytes.NewReader(append(m.Data, '\n')), &k) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	w.add(30)
	k.until(t, uids(30))
}

func isRFC3339(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}

func testFluentBitRecipe(t *testing.T) {
	all := recipes(t, "Fluent Bit")
	if len(all) != 1 {
		t.Fatalf("%d files", len(all))
	}
	sections := map[string]map[string]string{}
	var in map[string]string
	for line := range strings.Lines(all[0]) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "[") {
			in = map[string]string{}
			sections[line] = in
		} else if key, value, ok := strings.Cut(line, " "); ok {
			in[key] = strings.TrimSpace(value)
		}
	}
	input, parser := sections["[INPUT]"], sections["[PARSER]"]
	if input["Name"] != "tail" || input["Parser"] != parser["Name"] || parser["Format"] != "json" || parser["Time_Format"] != "%Y-%m-%dT%H:%M:%S.%L" {
		t.Fatalf("%v", sections)
	}
	for _, line := range archive(t, filepath.Join(t.TempDir(), filepath.Base(input["Path"]))) {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		// %L is a fraction of a second, and must be there.
		if at, _ := e[parser["Time_Key"]].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z$`).MatchString(at) {
			t.Errorf("%s: %q", parser["Time_Key"], at)
		}
	}
}
