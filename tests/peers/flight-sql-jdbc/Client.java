import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

/**
 * Does over JDBC what DBeaver does, and prints what comes back, a row a line with tabs. The arguments are URL and user, the environment
 * variable TOKEN is the password. Each line of standard input is a step: its name, then SQL and values, with tabs between them.
 */
public class Client {
    public static void main(String[] given) throws Exception {
        Properties properties = new Properties();
        properties.put("user", given[1]);
        properties.put("password", System.getenv("TOKEN"));
        BufferedReader steps = new BufferedReader(new InputStreamReader(System.in));
        try (Connection connection = DriverManager.getConnection(given[0], properties)) {
            for (String line = steps.readLine(); line != null; line = steps.readLine()) {
                try {
                    run(connection, line.split("\t"));
                } catch (SQLException error) {
                    System.out.println("SQLException\t" + error.getMessage().replace('\n', ' '));
                }
            }
        }
        System.exit(0);
    }

    private static void run(Connection connection, String[] step) throws Exception {
        switch (step[0]) {
            case "metadata" -> metadata(connection.getMetaData());
            case "query" -> {
                try (Statement statement = connection.createStatement()) {
                    print(statement.executeQuery(step[1]));
                }
            }
            case "first" -> {
                try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(step[1])) {
                    rows.next();
                    System.out.println("first\t" + rows.getString(1));
                    statement.cancel();
                }
            }
            case "prepared" -> {
                try (PreparedStatement statement = connection.prepareStatement(step[1])) {
                    for (int place = 2; place < step.length; place++) {
                        statement.setString(place - 1, step[place]);
                    }
                    print(statement.executeQuery());
                }
            }
            default -> throw new IllegalArgumentException(step[0]);
        }
    }

    /** What DBeaver asks when it connects and when its tree of objects is opened. */
    private static void metadata(DatabaseMetaData about) throws SQLException {
        System.out.println("product\t" + about.getDatabaseProductName() + "\t" + about.isReadOnly() + "\t" + about.getIdentifierQuoteString());
        System.out.println("catalogs");
        print(about.getCatalogs());
        System.out.println("schemas");
        print(about.getSchemas());
        System.out.println("types");
        print(about.getTableTypes());
        System.out.println("tables");
        print(about.getTables(null, null, "flow%", new String[] {"TABLE"}));
        System.out.println("columns");
        print(about.getColumns(null, null, "flows", "%"));
        System.out.println("keys");
        print(about.getPrimaryKeys(null, null, "flows"));
        print(about.getImportedKeys(null, null, "flows"));
        print(about.getExportedKeys(null, null, "flows"));
        System.out.println("end");
    }

    private static void print(ResultSet result) throws SQLException {
        try (ResultSet rows = result) {
            int columns = rows.getMetaData().getColumnCount();
            while (rows.next()) {
                StringBuilder line = new StringBuilder();
                for (int place = 1; place <= columns; place++) {
                    line.append(place > 1 ? "\t" : "").append(rows.getString(place));
                }
                System.out.println(line);
            }
        }
    }
}
