package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// A client that is held is told again and again that it still waits, with the request
// and until when, and then its statement runs once.
func TestHeldClientsAreToldThatTheyWait(t *testing.T) {
	a := askingOf(openWith(t, strings.ReplaceAll(approvePolicy, "WAIT", "wait: 5m"), protocoltest.Options{}, func(o *postgres.Options) { o.AliveEvery = 5 * time.Millisecond }))
	notices := make(chan *pgconn.Notice, 10_000)
	cfg, err := pgx.ParseConfig(a.dsn(""))
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		select {
		case notices <- n:
		default:
		}
	}
	c, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for i, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} {
		e, done := a.held(c, 9650+i, mode)
		for n := range 4 {
			select {
			case got := <-notices:
				if still := strings.Contains(got.Message, "still waits"); got.Code != "SPA01" || still != (n > 0) || !strings.Contains(got.Message, e.ID) || !strings.Contains(got.Detail, `"state":"pending"`) {
					t.Errorf("%d: %+v", n, got)
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("%v: only %d notices", mode, n)
			}
		}
		a.decide(e.ID, approval.Approve)
		if err := a.end(done); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
		for len(notices) > 0 {
			<-notices
		}
		var one int
		if err := c.QueryRow(t.Context(), "SELECT 1").Scan(&one); err != nil || one != 1 {
			t.Errorf("%v: the session is not usable behind it: %v", mode, err)
		}
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a IN (9650, 9651)"); got != "2" {
		t.Errorf("%s rows", got)
	}
	for _, e := range a.listed(true) {
		if e.State != "consumed" {
			t.Errorf("%s is %s", e.ID, e.State)
		}
	}
}
