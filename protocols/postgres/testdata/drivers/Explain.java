import java.sql.*;

// Asks through pgjdbc what would be decided, often enough that it prepares.
class Explain {
	public static void main(String[] args) throws Exception {
		try (Connection c = DriverManager.getConnection(args[0])) {
			c.setAutoCommit(false);
			c.createStatement().execute("SET sallyport.explain = on");
			PreparedStatement p = c.prepareStatement("SELECT ssn FROM clinic.patients WHERE id = ?");
			for (int i = 0; i < 8; i++) {
				p.setInt(1, i);
				try (ResultSet r = p.executeQuery()) {
					r.next();
					if (!r.getString("verdict").equals("mask") || !r.getString("detail").contains("\"rewritten\":true")) {
						throw new Exception(r.getString("detail"));
					}
				}
			}
			PreparedStatement d = c.prepareStatement("DELETE FROM clinic.patients WHERE id = ? AND name = ?");
			d.setInt(1, 1);
			d.setString(2, "x");
			if (!d.execute()) {
				throw new Exception("no row");
			}
			c.rollback();
			try (ResultSet r = c.createStatement().executeQuery("SELECT 40 + 2")) {
				r.next();
				if (r.getInt(1) != 42) {
					throw new Exception("not 42");
				}
			}
			System.out.println("pgjdbc");
		}
	}
}
