package desk_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
)

var hostUser = regexp.MustCompile(`(?s)\{nkey: UA\.\.\..*?\}\}\}`)

// The accounts that the documentation has for a NATS of one's own keep hosts apart:
// none listens or answers for another, and none asks.
func TestDocumentedAccounts(t *testing.T) {
	text, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, conf, _ := strings.Cut(string(text), "```\naccounts {")
	conf, _, _ = strings.Cut("accounts {"+conf, "\n```")
	user := hostUser.FindString(conf)
	if user == "" {
		t.Fatalf("it has no user of a host:\n%s", conf)
	}
	conf = strings.Replace(conf, user, user+", "+strings.NewReplacer("ward-3", "ward-4", "UA...", "UC...").Replace(user), 1)
	keys := map[string]nkeys.KeyPair{}
	for _, name := range []string{"UA...", "UB...", "UC..."} {
		k, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := k.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
		conf = strings.ReplaceAll(conf, name, pub)
	}
	o := &server.Options{}
	if err := o.ProcessConfigString(conf); err != nil {
		t.Fatalf("%v in\n%s", err, conf)
	}
	o.Host, o.Port, o.JetStream, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", -1, true, t.TempDir(), true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	connect := func(name string) *nats.Conn {
		t.Helper()
		pub, _ := keys[name].PublicKey()
		nc, err := nats.Connect(s.ClientURL(), nats.Nkey(pub, keys[name].Sign), nats.PermissionErrOnSubscribe(true), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	ward3, ward4, asker := connect("UA..."), connect("UC..."), &desk.Client{Conn: connect("UB..."), Timeout: time.Minute}
	if _, err := asker.Ask(t.Context(), "ward-3", &desk.Ask{Do: desk.List}); !errors.Is(err, desk.ErrAway) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := ward3.Subscribe(desk.Subject("ward-3"), func(m *nats.Msg) {
		for _, part := range []string{"1/2", "2/2"} {
			out := nats.NewMsg(m.Reply)
			out.Header.Set("Sallyport-Part", part)
			out.Data = []byte(map[string]string{"1/2": `{"host":"ward-3",`, "2/2": `"entries":[]}`}[part])
			_ = m.RespondMsg(out)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{desk.Subject("ward-3"), "sallyport.approvals.*", "sallyport.>", ">"} {
		if mayListen(t, ward4, subject) {
			t.Errorf("ward-4 may listen to %s", subject)
		}
		if mayListen(t, asker.Conn, subject) {
			t.Errorf("the page may listen to %s", subject)
		}
	}
	_ = ward4.Publish(desk.Subject("ward-3"), []byte("{}"))
	if _ = ward4.Flush(); !errors.Is(ward4.LastError(), nats.ErrPermissionViolation) {
		t.Errorf("ward-4 may ask ward-3: %v", ward4.LastError())
	}
	if err := ward3.Flush(); err != nil {
		t.Fatal(err)
	}
	if a, err := asker.Ask(t.Context(), "ward-3", &desk.Ask{Do: desk.List}); err != nil || a.Host != "ward-3" {
		t.Errorf("%+v, %v", a, err)
	}
}

// On a NATS where all are in one account, an answer goes to an inbox, and nowhere else
// in the host's name.
func TestAnswersGoToInboxes(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	host, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Desk().Serve(ctx, host, "h1", slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	all, err := nc.SubscribeSync("sallyport.audit.>")
	if err != nil {
		t.Fatal(err)
	}
	c := &desk.Client{Conn: nc, Timeout: time.Minute}
	ask := func() error {
		_, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.List})
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := ask()
		if err == nil {
			break
		}
		if !errors.Is(err, desk.ErrAway) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	for range 20 {
		if err := nc.PublishRequest(desk.Subject("h1"), "sallyport.audit.h1.host.alarm", []byte(`{"do":"list"}`)); err != nil {
			t.Fatal(err)
		}
	}
	// Those that are asked behind them are answered behind all but the last few.
	for range 20 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, err := all.Pending(); err != nil || n > 0 {
		t.Errorf("%d answers stand among the events, %v", n, err)
	}
}
