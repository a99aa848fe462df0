package all_test

import (
	"fmt"
	"os"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/all"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
	"sallyport.dev/sallyport/protocols/wire"
)

// drivers are how the suite speaks to each protocol of the table.
var drivers = map[string]*protocoltest.Driver{}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	server, err := postgrestest.Start("CREATE TABLE suite (a int)")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	drivers["postgres"] = postgrestest.Driver(server.Addr)
	wire.Poison(true)
	return m.Run()
}

// Every protocol of the table passes the suite. Nothing is analysed there: what
// a protocol does with an analysis its own tests hold.
func TestSuite(t *testing.T) {
	protocoltest.Run(t, all.New(all.Host{Digest: func([]byte) events.Digest { return events.Digest{} }}), drivers)
}
