package recorder_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// Each test of a store makes it with newStore: in a folder, and once more, below
// TestPostgreSQL, in a PostgreSQL server.
var newStore = func(t *testing.T) string { return t.TempDir() }

// homes has the folders of what goes with stores that are in none: keys and logs.
var homes = map[string]string{}

func home(store string) string {
	if dir, ok := homes[store]; ok {
		return dir
	}
	return store
}

var update = flag.Bool("update", false, "write postgres_layout.txt")

// startPostgres starts a server that has the store of each test in a schema of its
// own, and belongs to a role that is no superuser.
func startPostgres(t testing.TB) *postgrestest.Server {
	t.Helper()
	if _, err := os.Stat("/dev/shm"); err == nil {
		t.Setenv("TMPDIR", "/dev/shm") // it waits for each commit, which is not what is tested
	}
	return onDisk(t)
}

// onDisk starts one that waits for its disk.
func onDisk(t testing.TB) *postgrestest.Server {
	t.Helper()
	s, err := postgrestest.Start(`CREATE ROLE evidence LOGIN; GRANT CREATE ON DATABASE postgres TO evidence`, "fsync=on")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// startWeak starts one that does not wait for its disk.
func startWeak(t *testing.T) (*postgrestest.Server, error) {
	s, err := postgrestest.Start(`CREATE ROLE evidence LOGIN; GRANT CREATE ON DATABASE postgres TO evidence`)
	if err == nil {
		t.Cleanup(s.Stop)
	}
	return s, err
}

var schemas atomic.Int64

func pgURL(s *postgrestest.Server, role, schema string) string {
	return fmt.Sprintf("postgres://%s@/postgres?host=%s&port=%d&search_path=%s", role, s.Dir, s.Addr.Port(), schema)
}

func pgStore(t testing.TB, s *postgrestest.Server) string {
	url := pgURL(s, "evidence", fmt.Sprintf("store%d", schemas.Add(1)))
	homes[url] = t.TempDir()
	return url
}

// asItIs copies a store as it is.
func asItIs(t *testing.T, store string) string {
	t.Helper()
	if !recorder.IsURL(store) {
		return copyDir(t, store)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := recorder.Export(t.Context(), store, home(store), to, logKeys(t), 30*time.Second, nil); err != nil {
		t.Fatal(err)
	}
	return to
}

// suite is what must be so of a store wherever it is.
var suite = []testing.InternalTest{
	{Name: "AddIsIdempotentInAnyOrder", F: TestAddIsIdempotentInAnyOrder},
	{Name: "Alarms", F: TestAlarms},
	{Name: "GapIsAnAlarmAndStopsTheHead", F: TestGapIsAnAlarmAndStopsTheHead},
	{Name: "UnreadableIsKeptAsAnAlarm", F: TestUnreadableIsKeptAsAnAlarm},
	{Name: "TwoHostsDoNotMix", F: TestTwoHostsDoNotMix},
	{Name: "DamageOfWhatWaits", F: TestDamageOfWhatWaits},
	{Name: "NothingIsSaidBeforeTheCommit", F: TestNothingIsSaidBeforeTheCommit},
	{Name: "RowsThatAreNotWritten", F: TestRowsThatAreNotWritten},
	{Name: "VerifyOfflineAgainstTheLog", F: TestVerifyOfflineAgainstTheLog},
	{Name: "ProofsOfTheLog", F: TestProofsOfTheLog},
	{Name: "Witness", F: TestWitness},
	{Name: "ExportThatFailsLeavesNothing", F: TestExportThatFailsLeavesNothing},
	{Name: "ExactlyOnceThroughKills", F: TestExactlyOnceThroughKills},
	{Name: "TwoRecordersOfOneStore", F: TestTwoRecordersOfOneStore},
	{Name: "ReceiptLetsTheJournalForget", F: TestReceiptLetsTheJournalForget},
	{Name: "HolesHoldNothingUp", F: TestHolesHoldNothingUp},
	{Name: "DuplicatesAndForgeriesOnTheStream", F: TestDuplicatesAndForgeriesOnTheStream},
	{Name: "EachUnreadableMessageIsKept", F: TestEachUnreadableMessageIsKept},
	{Name: "Search", F: TestSearch},
	{Name: "SearchByPages", F: TestSearchByPages},
	{Name: "ListOfMany", F: TestListOfMany},
	{Name: "VerifyManyInABlock", F: TestVerifyManyInABlock},
	{Name: "ManyRowsThatAreNotWritten", F: TestManyRowsThatAreNotWritten},
	{Name: "Sessions", F: TestSessions},
	{Name: "Show", F: TestShow},
	{Name: "DecidedAgain", F: TestDecidedAgain},
	{Name: "SessionsOfTwoHosts", F: TestSessionsOfTwoHosts},
	{Name: "SessionFromLateRecords", F: TestSessionFromLateRecords},
	{Name: "NonsenseOfOneHost", F: TestNonsenseOfOneHost},
	{Name: "NumbersOfAllBits", F: TestNumbersOfAllBits},
	{Name: "InterruptedIsWhatIsRecorded", F: TestInterruptedIsWhatIsRecorded},
	{Name: "Subjects", F: TestSubjects},
	{Name: "Watch", F: TestWatch},
	{Name: "WatchWaitsForTheText", F: TestWatchWaitsForTheText},
	{Name: "ASilentHostIsAnAlarm", F: TestASilentHostIsAnAlarm},
	{Name: "StatementsWithTheirOutcome", F: TestStatementsWithTheirOutcome},
	{Name: "VerifyHoldsTheListAgainstTheRecords", F: TestVerifyHoldsTheListAgainstTheRecords},
	{Name: "VerifyListAfterLateRecords", F: TestVerifyListAfterLateRecords},
	{Name: "VerifyHoldsWhatIsNotedOfSignatures", F: TestVerifyHoldsWhatIsNotedOfSignatures},
	{Name: "EditsOfEachColumn", F: TestEditsOfEachColumn},
	{Name: "EditsOfEachFile", F: TestEditsOfEachFile},
	{Name: "UnsignedThoughSinceATimeToCome", F: TestUnsignedThoughSinceATimeToCome},
	{Name: "VerifyFollowsTheAlarms", F: TestVerifyFollowsTheAlarms},
	{Name: "DamagedHeadDoesNotStopAdd", F: TestDamagedHeadDoesNotStopAdd},
	{Name: "VerifyNamesTheRecord", F: TestVerifyNamesTheRecord},
	{Name: "VerifyAgainstANotedHead", F: TestVerifyAgainstANotedHead},
	{Name: "RowsBeforeTheFirstAreNotShown", F: TestRowsBeforeTheFirstAreNotShown},
	{Name: "SignaturesAreCheckedBeforeStoring", F: TestSignaturesAreCheckedBeforeStoring},
	{Name: "UnsignedRecordsAreAnAlarm", F: TestUnsignedRecordsAreAnAlarm},
	{Name: "TwoHostsWithOneName", F: TestTwoHostsWithOneName},
	{Name: "AnIdentityVouchesForAHostsKey", F: TestAnIdentityVouchesForAHostsKey},
	{Name: "TwoKeysThatAnIdentityVouchesFor", F: TestTwoKeysThatAnIdentityVouchesFor},
	{Name: "NoVouchingTakesAChainOver", F: TestNoVouchingTakesAChainOver},
	{Name: "VouchingsOverTime", F: TestVouchingsOverTime},
	{Name: "VerifyAgainstTheHostsKeys", F: TestVerifyAgainstTheHostsKeys},
	{Name: "NamesOfAnyBytes", F: TestNamesOfAnyBytes},
	{Name: "LongNamesStopNobody", F: TestLongNamesStopNobody},
	{Name: "FindBehindItsHost", F: TestFindBehindItsHost},
	{Name: "TranscriptsApart", F: TestTranscriptsApart},
	{Name: "EncryptedTranscripts", F: TestEncryptedTranscripts},
	{Name: "EncryptedTranscriptsAreHeldToWhatWasStored", F: TestEncryptedTranscriptsAreHeldToWhatWasStored},
	{Name: "NoRecordWithoutItsBody", F: TestNoRecordWithoutItsBody},
	{Name: "WaitingTranscriptsStayReadable", F: TestWaitingTranscriptsStayReadable},
	{Name: "Prune", F: TestPrune},
	{Name: "Holds", F: TestHolds},
	{Name: "HoldBySubject", F: TestHoldBySubject},
	{Name: "PruneTrustsNoEditedHolds", F: TestPruneTrustsNoEditedHolds},
	{Name: "PruneGoesOn", F: TestPruneGoesOn},
	{Name: "RetentionRules", F: TestRetentionRules},
	{Name: "RetentionByRecording", F: TestRetentionByRecording},
	{Name: "SealedByTheHost", F: TestSealedByTheHost},
	{Name: "SweepBelievesNoRow", F: TestSweepBelievesNoRow},
	{Name: "RelabelledSession", F: TestRelabelledSession},
	{Name: "ForgedDeletion", F: TestForgedDeletion},
	{Name: "PruneRefuses", F: TestPruneRefuses},
	{Name: "FarFuture", F: TestFarFuture},
	{Name: "RecordersTakeTurns", F: TestRecordersTakeTurns},
}

// TestPostgreSQL holds a store in PostgreSQL to what one in a folder is held to.
func TestPostgreSQL(t *testing.T) {
	server := startPostgres(t)
	before := newStore
	newStore = func(t *testing.T) string { return pgStore(t, server) }
	defer func() { newStore = before }()
	for _, x := range suite {
		t.Run(x.Name, x.F)
	}
}

// TestPostgresLayout: what the migrations make is what a store is held against.
func TestPostgresLayout(t *testing.T) {
	store := pgStore(t, startPostgres(t))
	s, err := recorder.Open(store)
	if err == nil {
		defer s.Close()
	} else if !*update {
		t.Fatalf("%v (after a new migration: go test ./events/recorder -run TestPostgresLayout -update)", err)
	}
	if !*update {
		return
	}
	text, err := recorder.MadePostgresLayout(store)
	if err == nil {
		err = os.WriteFile("postgres_layout.txt", []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
