package postgres_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// relaying is the protocol where nothing is analysed.
func relaying() *postgres.Protocol {
	return postgres.New(postgres.Options{Digest: digest})
}

func FuzzClient(f *testing.F) {
	for _, ms := range [][]message{
		{parse("s", "SELECT 1"), bind("p", "s"), execute("p"), execute("p"), closing('S', "s"), closing('P', "p"), sync_},
		{q("PREPARE s AS SELECT 1; DECLARE c CURSOR FOR SELECT 2"), q("DEALLOCATE ALL"), q("CLOSE c"), bind("", "s"), describe('P', "c"), sync_},
		{q("BEGIN; COPY t FROM STDIN"), sync_, flush, data("1\n"), &pgproto3.CopyFail{Message: "no"}, copyDone, q("COPY t FROM STDIN"), q("SELECT 1")},
	} {
		f.Add(enc(ms...), true)
		f.Add(enc(ms...), false)
	}
	f.Add([]byte("F\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"), true)
	protocoltest.Fuzz(f, relaying(), postgrestest.Driver(netip.AddrPort{}))
}

func FuzzServer(f *testing.F) {
	m := postgrestest.Message
	protocoltest.FuzzServer(f, relaying(), postgrestest.Driver(netip.AddrPort{}),
		postgrestest.Ready(), postgrestest.Error("ERROR", "22012", "division by zero"), postgrestest.Error("FATAL", "57P01", "good-bye"),
		bytes.Join([][]byte{
			m('T', "\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"), m('D', "\x00\x01\x00\x00\x00\x01x"),
			m('N', "SNOTICE\x00Mhello\x00\x00"), m('C', "SELECT 1\x00"), postgrestest.Ready(),
		}, nil),
		bytes.Join([][]byte{m('1', ""), m('2', ""), m('n', ""), m('I', ""), m('s', ""), m('3', ""), postgrestest.Ready()}, nil),
		bytes.Join([][]byte{m('H', "\x00\x00\x01\x00\x00"), m('d', "1\n"), m('c', ""), m('C', "COPY 1\x00"), postgrestest.Ready()}, nil),
		bytes.Join([][]byte{m('G', "\x00\x00\x01\x00\x00"), m('A', "\x00\x00\x00\x01channel\x00payload\x00"), m('S', "client_encoding\x00LATIN1\x00"), postgrestest.Ready()}, nil),
	)
}

func FuzzGreeting(f *testing.F) {
	d := postgrestest.Driver(netip.AddrPort{})
	ssl, gss := []byte{0, 0, 0, 8, 4, 210, 22, 47}, []byte{0, 0, 0, 8, 4, 210, 22, 48}
	cancel := []byte{0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2}
	for _, b := range [][]byte{
		d.Hello, ssl, gss, cancel, append(bytes.Clone(ssl), d.Hello...), append(bytes.Clone(gss), append(bytes.Clone(ssl), cancel...)...),
		{0, 0, 0, 9, 0, 3, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0},
		{0, 0, 0, 0},
		{0, 0, 0, 8, 0, 3, 0, 0},
		{0, 0, 0, 9, 0, 2, 0, 0, 0},
	} {
		f.Add(b)
	}
	protocoltest.FuzzGreeting(f, relaying(), d)
}
