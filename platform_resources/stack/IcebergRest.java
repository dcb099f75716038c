package org.apache.iceberg.rest; // the adapter's request types are visible in its own package only

import java.io.Reader;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.catalog.Catalog;
import org.apache.iceberg.rest.requests.CommitTransactionRequest;
import org.apache.iceberg.rest.requests.UpdateTableRequest;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;

/** An Iceberg REST catalog on one address of this machine; its argument is a properties file: host, port, catalog.name and the catalog's own. */
public final class IcebergRest {

  private IcebergRest() {}

  public static void main(String[] arguments) throws Exception {
    Properties read = new Properties();
    try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
      read.load(reader);
    }
    Map<String, String> settings = new TreeMap<>();
    read.forEach((name, value) -> settings.put((String) name, (String) value));
    String host = settings.remove("host");
    int port = Integer.parseInt(settings.remove("port"));
    Catalog catalog = CatalogUtil.buildIcebergCatalog(settings.remove("catalog.name"), settings, new Configuration());

    ServletContextHandler handler = new ServletContextHandler(ServletContextHandler.NO_SESSIONS);
    handler.addServlet(new ServletHolder(new RESTCatalogServlet(new CheckedCommits(catalog))), "/*");
    Server server = new Server(new InetSocketAddress(host, port)); // the fixture's own main listens on every address
    server.setHandler(handler);
    server.setStopAtShutdown(true);
    server.start();
    server.join();
  }

  /**
   * The fixture's adapter answers 204 to a transaction although a change in it lost its race: acknowledged commits are gone. A
   * transaction over one table (DuckDB's commits) takes the path of an ordinary commit, compared and swapped; one over several is refused.
   */
  private static final class CheckedCommits extends RESTCatalogAdapter {
    private final Catalog catalog;

    CheckedCommits(Catalog catalog) {
      super(catalog);
      this.catalog = catalog;
    }

    @Override
    public <T extends RESTResponse> T handleRequest(
        Route route, Map<String, String> vars, HTTPRequest request, Class<T> type, Consumer<Map<String, String>> headers) {
      if (route != Route.COMMIT_TRANSACTION) {
        return super.handleRequest(route, vars, request, type, headers);
      }
      List<UpdateTableRequest> changes = castRequest(CommitTransactionRequest.class, request.body()).tableChanges();
      if (changes.size() != 1) {
        throw new UnsupportedOperationException("This server commits to one table at a time");
      }
      CatalogHandlers.updateTable(catalog, changes.get(0).identifier(), changes.get(0));
      return null;
    }
  }
}
