import "@xyflow/react/dist/base.css";
import "./tokens.css";
import "./studio.css";
import { createRoot } from "react-dom/client";
import { App } from "./app";

createRoot(document.getElementById("studio")!).render(<App />);
