package mask_test

import (
	"fmt"
	"os"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

var server *postgrestest.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if server, err = postgrestest.Start(""); err != nil {
		fmt.Fprintln(os.Stderr, "start PostgreSQL:", err)
		return 1
	}
	defer server.Stop()
	return m.Run()
}
