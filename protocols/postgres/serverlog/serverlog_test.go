package serverlog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/serverlog"
)

// Lines of 13, which has 24 columns, and of 15, which has 26.
const csv13 = `2026-01-31 08:00:00.100 UTC,,,101,"10.0.0.5:40001",65b9f800.65,1,"",2026-01-31 08:00:00 UTC,,0,LOG,00000,"connection received: host=10.0.0.5 port=40001",,,,,,,,,"","not initialized"
2026-01-31 08:00:00.110 UTC,"agent","clinic",101,"10.0.0.5:40001",65b9f800.65,2,"authentication",2026-01-31 08:00:00 UTC,3/1,0,LOG,00000,"connection authorized: user=agent database=clinic application_name=sallyport:0198 psql SSL enabled (protocol=TLSv1.3, cipher=X, bits=256)",,,,,,,,,"","client backend"
2026-01-31 08:00:01.000 UTC,"agent","clinic",101,"10.0.0.5:40001",65b9f800.65,3,"idle",2026-01-31 08:00:00 UTC,3/2,0,LOG,00000,"statement: /* ,"" */
SELECT 1",,,,,,,,,"mine","client backend"
2026-01-31 08:00:02.000 UTC,"agent","clinic",101,"10.0.0.5:40001",65b9f800.65,4,"idle",2026-01-31 08:00:00 UTC,3/2,0,LOG,00000,"duration: 0.1 ms  execute s1: delete from t",,,,,,,,,"mine","client backend"
2026-01-31 08:00:02.000 UTC,"agent","clinic",101,"10.0.0.5:40001",65b9f800.65,5,"idle",2026-01-31 08:00:00 UTC,3/2,0,LOG,00000,"duration: 0.1 ms",,,,,,,,,"mine","client backend"
2026-01-31 08:00:03.000 UTC,,,55,,65b9f800.37,1,,2026-01-31 08:00:00 UTC,,0,LOG,00000,"checkpoint starting: time",,,,,,,,,"","checkpointer"
`

const csv15 = `2026-01-31 08:01:00.000 UTC,"eve","clinic",102,"::1:40002",65b9f83c.66,1,"SELECT",2026-01-31 08:01:00 UTC,3/2,0,LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,TABLE,clinic.patients,""select * from patients"",<not logged>",,,,,,,,,"psql","client backend",,0
2026-01-31 08:02:00.000 UTC,"postgres","clinic",103,"[local]",65b9f878.67,1,"SELECT",2026-01-31 08:02:00 UTC,3/2,0,LOG,00000,"statement: (SELECT 2)",,,,,,,,,"psql","client backend",,0
2026-01-31 08:03:00.000 UTC,"eve","clinic",104,"[::1]:40003",65b9f8b4.68,1,"authentication",2026-01-31 08:03:00 UTC,3/2,0,FATAL,28P01,"password authentication failed for user ""eve""",,,,,,,,,"","client backend",,0
`

const json15 = `{"timestamp":"2026-01-31 08:04:00.000 UTC","user":"agent","dbname":"clinic","pid":105,"remote_host":"10.0.0.5","remote_port":40005,"session_id":"65b9f8f0.69","line_num":1,"ps":"idle","session_start":"2026-01-31 08:04:00 UTC","error_severity":"LOG","message":"statement: TABLE t","application_name":"sallyport:0199","backend_type":"client backend","query_id":0}

{"timestamp":"2026-01-31 08:05:00.000 UTC","user":"agent","dbname":"clinic","pid":106,"remote_host":"[local]","session_id":"65b9f92c.6a","session_start":"2026-01-31 08:05:00 UTC","error_severity":"LOG","message":"statement: TABLE t","backend_type":"client backend"}
`

func TestRead(t *testing.T) {
	var r serverlog.Reader
	for _, log := range []string{csv13, csv15, json15, ""} {
		if err := r.Read(strings.NewReader(log)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, s := range r.Sessions() {
		b, err := json.Marshal([]any{s.ID, s.PID, s.User, s.Database, s.From.IsValid(), s.Peer, s.Application, s.Started.Format("15:04:05"), s.Last.Format("15:04:05"), s.Statements, s.Commands, s.Relations, s.Refused})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	want := `["65b9f800.65",101,"agent","clinic",true,"10.0.0.5:40001",["sallyport:0198 psql","mine"],"08:00:00","08:00:02",2,["DELETE"],null,false]
["65b9f83c.66",102,"eve","clinic",true,"::1:40002",["psql"],"08:01:00","08:01:00",1,["SELECT"],["clinic.patients"],false]
["65b9f878.67",103,"postgres","clinic",false,"[local]",["psql"],"08:02:00","08:02:00",1,["SELECT"],null,false]
["65b9f8b4.68",104,"eve","clinic",true,"[::1]:40003",null,"08:03:00","08:03:00",0,null,null,true]
["65b9f8f0.69",105,"agent","clinic",true,"10.0.0.5:40005",["sallyport:0199"],"08:04:00","08:04:00",1,["TABLE"],null,false]
["65b9f92c.6a",106,"agent","clinic",false,"[local]",null,"08:05:00","08:05:00",1,["TABLE"],null,false]`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

// Who was let in is not refused by what ends the session later.
func TestLetInAndEnded(t *testing.T) {
	var r serverlog.Reader
	log := strings.Join(strings.SplitAfter(csv13, "\n")[:2], "") +
		`2026-01-31 08:00:05.000 UTC,"agent","clinic",101,"10.0.0.5:40001",65b9f800.65,6,"idle",2026-01-31 08:00:00 UTC,3/2,0,FATAL,28000,"gone",,,,,,,,,"mine","client backend"` + "\n"
	if err := r.Read(strings.NewReader(log)); err != nil || len(r.Sessions()) != 1 || r.Sessions()[0].Refused {
		t.Errorf("%v %+v", err, r.Sessions())
	}
}

// What is no such log is said to be none, with the line.
func TestReadRefuses(t *testing.T) {
	for name, c := range map[string][2]string{
		"a zone":        {strings.ReplaceAll(csv13, "UTC", "CEST"), "line 1: time"},
		"another file":  {"a,b,c\n", "line 1: not a csvlog"},
		"half a line":   {csv13[:len(csv13)-40], "not a csvlog"},
		"a broken time": {strings.Replace(csv15, "2026-01-31 08:02:00.000 UTC", "yesterday", 1), "line 2: time"},
		"no number":     {strings.Replace(csv15, ",103,", ",x,", 1), "line 2: process id"},
		"half a JSON":   {json15[:100], "line 1: not a jsonlog"},
	} {
		var r serverlog.Reader
		if err := r.Read(strings.NewReader(c[0])); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(csv13)
	f.Add(csv15)
	f.Add(json15)
	f.Fuzz(func(t *testing.T, log string) {
		var r serverlog.Reader
		_ = r.Read(strings.NewReader(log))
		for _, s := range r.Sessions() {
			if s.ID == "" || len(s.Application) > 100 || len(s.Commands) > 100 {
				t.Errorf("%+v", s)
			}
		}
	})
}
