package postgrestest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/protocols/protocoltest"
)

// Encode returns messages of a client as bytes.
func Encode(ms ...pgproto3.FrontendMessage) []byte {
	var b []byte
	for _, m := range ms {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err)
		}
	}
	return b
}

// Query is a Query message.
func Query(sql string) pgproto3.FrontendMessage { return &pgproto3.Query{String: sql} }

// Extended is a statement in the extended protocol, without its Sync.
func Extended(sql string, binds ...string) []pgproto3.FrontendMessage {
	b := &pgproto3.Bind{}
	for _, v := range binds {
		b.Parameters = append(b.Parameters, []byte(v))
	}
	return []pgproto3.FrontendMessage{&pgproto3.Parse{Query: sql}, b, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}}
}

// Read reads one message of a server, whole.
func Read(r io.Reader) (typ byte, msg []byte, err error) {
	msg = make([]byte, 5)
	if _, err := io.ReadFull(r, msg); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(msg[1:])
	if n < 4 || n > 1<<30 {
		return 0, nil, fmt.Errorf("a message %q of %d bytes", msg[0], n)
	}
	msg = append(msg, make([]byte, n-4)...)
	_, err = io.ReadFull(r, msg[5:])
	return msg[0], msg, err
}

// Answer reads up to the next ReadyForQuery.
func Answer(r *bufio.Reader) ([]byte, error) {
	var all []byte
	for {
		typ, msg, err := Read(r)
		all = append(all, msg...)
		if err != nil || typ == 'Z' {
			return all, err
		}
	}
}

// Driver returns what the suite needs of this protocol, at a server.
func Driver(server netip.AddrPort) *protocoltest.Driver {
	large := append([]byte{'Q'}, binary.BigEndian.AppendUint32(nil, 17<<20)...)
	large = append(append(large, "SELECT '"...), bytes.Repeat([]byte("x"), 17<<20-4-8-2)...)
	d := &protocoltest.Driver{
		Server: server,
		Fake:   Fake, Admit: Admit, Innocent: innocent, Whole: whole, Login: login, Greeted: greeted,
		Hello: Encode(&pgproto3.StartupMessage{
			ProtocolVersion: pgproto3.ProtocolVersionNumber,
			Parameters:      map[string]string{"user": "postgres", "database": "postgres"},
		}),
		Welcome: func(r *bufio.Reader) error {
			for {
				switch typ, msg, err := Read(r); {
				case err != nil:
					return err
				case typ == 'E':
					return errors.New(string(msg))
				case typ == 'Z':
					return nil
				}
			}
		},
		Bye:    Encode(&pgproto3.Terminate{}),
		Answer: Answer,
		Stir:   Encode(Query("SELECT 'stir'")), Words: []byte("stir"),
		Command: "delete",
		Blocked: Encode(Query("DELETE FROM suite WHERE a = 999")), BlockedWords: []byte("999"),
		Refused: func(b []byte) bool {
			return len(b) > 0 && b[0] == 'E' && bytes.Contains(b, []byte("sallyport: refused: ")) && bytes.HasSuffix(b, []byte{'Z', 0, 0, 0, 5, 'I'})
		},
		Unknown: []byte{'y', 0, 0, 0, 8, 'W', 'H', 'A', 'T'},
		Large:   append(large, '\'', 0),
	}
	talk := func(name string, answers int, ms ...pgproto3.FrontendMessage) {
		d.Talks = append(d.Talks, protocoltest.Talk{Name: name, Say: Encode(ms...), Answers: answers})
	}
	sync := &pgproto3.Sync{}
	data := func(s string) pgproto3.FrontendMessage { return &pgproto3.CopyData{Data: []byte(s)} }
	talk("stir", 1, Query("SELECT 'stir'"))
	talk("an error", 2, Query("SELECT 1/0"), Query("SELEC"))
	talk("a transaction that fails", 4, Query("BEGIN"), Query("SELECT 1/0"), Query("SELECT 1"), Query("ROLLBACK"))
	talk("extended", 1, append(Extended("SELECT $1::int + 1", "41"), sync)...)
	talk("a pipeline", 2, append(append(Extended("SELECT 1/$1::int", "0"), sync), append(Extended("SELECT 2"), sync)...)...)
	talk("copy out", 1, Query("COPY (SELECT generate_series(1, 100)) TO STDOUT"))
	talk("copy in", 2, Query("CREATE TEMP TABLE c (a int)"), Query("COPY c FROM STDIN"), data("1\n2\n"), data("3\n"), &pgproto3.CopyDone{})
	talk("copy in that fails", 3, Query("CREATE TEMP TABLE c (a int)"), Query("COPY c FROM STDIN"), data("1\nx\n"), data("3\n"), &pgproto3.CopyDone{}, Query("SELECT count(*) FROM c"))
	talk("large rows", 1, Query("SELECT repeat('x', 20000), 1"))
	return d
}
