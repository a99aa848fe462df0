import java.sql.*;
import java.util.Arrays;

// Has pgjdbc be refused, and prints what it makes of it and whether it carries on.
// Arguments are its URL and the verb of what is refused, and again.
class CarriesOn {
	static final String READ = "SELECT ssn FROM clinic.patients WHERE id = 1";
	static String NO;

	interface Attempt {
		Object run() throws SQLException;
	}

	static Object attempt(Attempt a) {
		try {
			return a.run();
		} catch (BatchUpdateException e) {
			return e.getSQLState() + " " + Arrays.toString(e.getUpdateCounts());
		} catch (SQLException e) {
			return e.getSQLState();
		}
	}

	static String one(Connection c) throws SQLException {
		try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(READ)) {
			r.next();
			return r.getString(1);
		}
	}

	static Object no(Connection c) {
		return attempt(() -> {
			try (Statement s = c.createStatement()) {
				return s.executeUpdate(NO);
			}
		});
	}

	static void speak(Connection c, String how) throws SQLException {
		System.out.println(how + " alone " + no(c) + " " + one(c));
		System.out.println(how + " several " + attempt(() -> c.createStatement().execute("SELECT 1; " + NO + "; SELECT 2")) + " " + one(c));
		c.setAutoCommit(false);
		System.out.println(how + " transaction " + one(c) + " " + no(c) + " " + attempt(() -> one(c)) + " commit " + attempt(() -> {
			c.commit();
			return "done";
		}));
		c.rollback();
		Savepoint p = c.setSavepoint();
		Object refused = no(c);
		c.rollback(p);
		System.out.println(how + " savepoint " + refused + " " + one(c));
		c.commit();
		try (PreparedStatement no = c.prepareStatement(NO.replace("1", "?")); PreparedStatement read = c.prepareStatement("SELECT ssn FROM clinic.patients WHERE id = ?")) {
			for (int i = 0; i < 7; i++) { // it names what comes often
				no.setInt(1, i);
				System.out.print(attempt(no::executeUpdate));
				c.rollback();
				read.setInt(1, 1);
				try (ResultSet r = read.executeQuery()) {
					r.next();
					System.out.println(" " + how + " prepared " + r.getString(1));
				}
			}
			c.rollback();
			for (int i = 0; i < 3; i++) {
				no.setInt(1, i);
				no.addBatch();
			}
			System.out.println(how + " batch " + attempt(() -> Arrays.toString(no.executeBatch())));
			c.rollback();
		}
		try (Statement s = c.createStatement()) {
			s.addBatch("SET application_name = 'a'");
			s.addBatch(NO);
			s.addBatch("SET application_name = 'b'");
			System.out.println(how + " batch of all kinds " + attempt(() -> Arrays.toString(s.executeBatch())));
			c.rollback();
			s.setFetchSize(1); // a portal that stays open
			try (ResultSet r = s.executeQuery("SELECT id FROM clinic.patients ORDER BY id")) {
				r.next();
				System.out.println(how + " portal " + no(c) + " " + attempt(() -> {
					while (r.next()) {
					}
					return "all";
				}));
			}
			c.rollback();
		}
		c.setAutoCommit(true);
		System.out.println(how + " afterwards " + one(c));
	}

	public static void main(String[] args) throws Exception {
		for (int i = 0; i + 1 < args.length; i += 2) {
			System.out.println("====");
			NO = args[i + 1] + " FROM clinic.patients WHERE id = 1";
			for (String how : new String[] {"", "&preferQueryMode=simple", "&autosave=always"}) {
				try (Connection c = DriverManager.getConnection(args[i] + how)) {
					speak(c, how);
				}
			}
		}
	}
}
